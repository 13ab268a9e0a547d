#include "launch/machine/bench/timing.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <numeric>

#include "runtime/check.h"

namespace carillon {
namespace {

// Enough for a median that a few disturbed repetitions do not move; more would use up the time of larger cases.
constexpr size_t kRepetitions = 25;

// On a device: a repetition this long hides the cost of waiting for it (some 20 µs), and the queue takes a thousand
// launches before it blocks the host.
constexpr double kRepetitionSeconds = 5e-3;
constexpr int64_t kMostBodies = 500;

// Returns the number of bodies per repetition. `run(n)` runs n bodies and returns their seconds, the same on all ranks
// that must agree. Increases in steps, because a single body takes longer than its share of many.
int64_t bodies_of_a_repetition(Backend& backend, double seconds, const std::function<double(int64_t)>& run) {
  if (backend.queue() == nullptr) return 1;
  const double wanted = std::min(kRepetitionSeconds, seconds / 4);
  int64_t bodies = 1;
  double took = run(1), spent = took;
  while (took < wanted / 2 && bodies < kMostBodies && spent < seconds / 2) {
    bodies = std::min(kMostBodies, static_cast<int64_t>(std::clamp(wanted / took, 2.0, 16.0)) * bodies);
    took = run(bodies);
    spent += took;
  }
  return bodies;
}

double quantile(const std::vector<double>& sorted, double share) {
  return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)];
}

}  // namespace

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double largest(Communicator& world, double value) {
  world.all_reduce(Tensor(&value, DType::kFloat64, {1}), Reduction::kMax);
  return value;
}

Timing summarise(Communicator& world, std::vector<double> seconds) {
  CHECK(!seconds.empty(), "a figure needs a repetition");
  std::sort(seconds.begin(), seconds.end());
  const double median = quantile(seconds, 0.5);
  // The clock may not have advanced, but no time is zero.
  const double own[2] = {std::max(median, 1e-9),
                         median > 0 ? (quantile(seconds, 0.75) - quantile(seconds, 0.25)) / median : 0};
  return {largest(world, own[0]), largest(world, own[1]), static_cast<int64_t>(seconds.size())};
}

Timing time_alone(Backend& backend, Communicator& world, double seconds, const std::function<void()>& body) {
  const auto run = [&](int64_t bodies) {
    const double begin = now_seconds();
    for (int64_t i = 0; i < bodies; ++i) body();
    backend.synchronize();
    return now_seconds() - begin;
  };
  backend.synchronize();  // the tensors of the case are filled by now
  world.barrier();
  std::vector<double> all{run(1)};
  // Decided together, so that no rank measures while its neighbours have stopped. A device's first call of a kind loads
  // code, which may take longer than the case itself, so it is not used as the measurement.
  if (backend.queue() != nullptr && largest(world, all[0]) >= seconds) all[0] = run(1);
  if (largest(world, all[0]) >= seconds) return summarise(world, std::move(all));
  const int64_t bodies = bodies_of_a_repetition(backend, seconds, run);
  world.barrier();
  all.clear();
  const double begin = now_seconds();
  do {
    all.push_back(run(bodies) / static_cast<double>(bodies));
  } while (all.size() < kRepetitions && now_seconds() - begin < seconds);
  return summarise(world, std::move(all));
}

Timing time_together(Backend& backend, Communicator& world, double seconds, const std::function<void()>& body) {
  const auto run = [&](int64_t bodies) {
    const double begin = now_seconds();
    for (int64_t i = 0; i < bodies; ++i) body();
    backend.synchronize();
    return now_seconds() - begin;
  };
  const auto run_agreed = [&](int64_t bodies) { return largest(world, run(bodies)); };
  backend.synchronize();
  world.barrier();
  std::vector<double> all{run(1)};
  double took = largest(world, all[0]);
  if (backend.queue() != nullptr && took >= seconds) took = largest(world, all[0] = run(1));
  if (took >= seconds) return summarise(world, std::move(all));
  const int64_t bodies = bodies_of_a_repetition(backend, seconds, run_agreed);
  if (bodies > 1) took = run_agreed(bodies);
  const auto count =
      std::clamp<size_t>(static_cast<size_t>(seconds / std::max(took, 1e-9)), 1, (bodies > 1 ? 1 : 8) * kRepetitions);
  world.barrier();
  all.clear();
  while (all.size() < count) all.push_back(run(bodies) / static_cast<double>(bodies));
  return summarise(world, std::move(all));
}

size_t measure_in_order(Communicator& world, double seconds, const std::vector<double>& costs,
                        const std::function<double(size_t, double)>& measure) {
  CHECK(std::is_sorted(costs.begin(), costs.end()), "cases come in the order of their cost");
  double left = seconds, cost_per_second = 0;
  for (size_t i = 0; i < costs.size(); ++i) {
    const auto cases = static_cast<double>(costs.size() - i);
    double share = std::max(left, 0.0) / cases;
    if (i > 0) {
      if (costs[i] / cost_per_second > left) return i;
      // Small cases are repeated only in time that the large ones do not need, unless those would not fit anyway.
      const double once =
          std::accumulate(costs.begin() + static_cast<std::ptrdiff_t>(i), costs.end(), 0.0) / cost_per_second;
      if (const double spare = left - 1.2 * once; spare > left / 4) share = spare / cases;
    }
    const double begin = now_seconds();
    const double took = measure(i, share);
    cost_per_second = costs[i] / took;
    left -= largest(world, now_seconds() - begin);  // the same on all ranks, hence also every decision above
  }
  return costs.size();
}

}  // namespace carillon
