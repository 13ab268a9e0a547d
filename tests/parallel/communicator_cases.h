// The requirements on every communicator of several ranks, run over threads and over MPI. Each case is called by every
// rank.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "parallel/transport/communicator.h"
#include "runtime/rng.h"

namespace carillon::testing {

// A number that depends on rank and index, not exactly representable and of widely varying size, so that sums depend on
// their order.
inline float part(int rank, int64_t i) {
  return static_cast<float>(
      random_normal(1, static_cast<uint64_t>(rank), static_cast<uint64_t>(i)) *
      std::pow(10.0, static_cast<double>(random_below(9, 2, static_cast<uint64_t>(rank), static_cast<uint64_t>(i)))));
}

inline void expect_all_reduce_in_rank_order(Communicator& world) {
  for (const int64_t count : {0, 1, 3, 1000, 5000, 100003}) {
    std::vector<float> x(static_cast<size_t>(count)), expected(x.size());
    for (int64_t i = 0; i < count; ++i) {
      x[static_cast<size_t>(i)] = part(world.rank(), i);
      float sum = part(0, i);
      for (int r = 1; r < world.size(); ++r) sum += part(r, i);
      expected[static_cast<size_t>(i)] = sum;
    }
    world.all_reduce(Tensor::of(x, {count}), Reduction::kSum);
    ASSERT_EQ(x, expected) << count << " elements";  // the same bits
  }
}

inline void expect_bfloat16_sums_round_once(Communicator& world) {
  std::vector<bfloat16> x(4099);
  for (size_t i = 0; i < x.size(); ++i) x[i] = bfloat16(part(world.rank(), static_cast<int64_t>(i)));
  world.all_reduce(Tensor::of(x, {4099}), Reduction::kSum);
  for (size_t i = 0; i < x.size(); ++i) {
    float sum = 0;
    for (int r = 0; r < world.size(); ++r) sum += static_cast<float>(bfloat16(part(r, static_cast<int64_t>(i))));
    ASSERT_EQ(x[i].bits, bfloat16(sum).bits) << i;
  }
}

inline void expect_extremes(Communicator& world) {
  EXPECT_EQ(world.max(int64_t{world.rank() * 7}), (world.size() - 1) * 7);
  EXPECT_EQ(world.min(int64_t{5 - world.rank()}), 6 - world.size());
  EXPECT_EQ(world.sum(int64_t{1} << 60), static_cast<int64_t>(static_cast<uint64_t>(world.size()) << 60));
}

inline void expect_a_nan_to_win(Communicator& world) {
  double x = world.rank() == 1 ? NAN : 1.0;
  world.all_reduce(Tensor(&x, DType::kFloat64, {1}), Reduction::kMax);
  EXPECT_TRUE(std::isnan(x)) << "a NaN must not get lost";
}

// Rank r has r + 1 rows of 3; the last rank has none.
inline std::vector<int64_t> uneven_rows(const Communicator& world) {
  std::vector<int64_t> counts;
  for (int r = 0; r < world.size(); ++r) counts.push_back(r + 1 == world.size() ? 0 : r + 1);
  return counts;
}

inline void expect_gather_with_uneven_rows(Communicator& world) {
  const std::vector<int64_t> counts = uneven_rows(world);
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  const int64_t own = counts[static_cast<size_t>(world.rank())];
  std::vector<int64_t> x(static_cast<size_t>(3 * own)), y(static_cast<size_t>(3 * total));
  for (size_t i = 0; i < x.size(); ++i) x[i] = 1000 * world.rank() + static_cast<int64_t>(i);
  world.all_gather(Tensor::of(y, {total, 3}), Tensor::of(x, {own, 3}), counts);
  size_t at = 0;
  for (int r = 0; r < world.size(); ++r)
    for (int64_t i = 0; i < 3 * counts[static_cast<size_t>(r)]; ++i) ASSERT_EQ(y[at++], 1000 * r + i);
}

inline void expect_scatter_with_uneven_rows(Communicator& world) {
  const std::vector<int64_t> counts = uneven_rows(world);
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  const int64_t own = counts[static_cast<size_t>(world.rank())];
  std::vector<float> whole(static_cast<size_t>(3 * total)), mine(static_cast<size_t>(3 * own));
  for (size_t i = 0; i < whole.size(); ++i) whole[i] = part(world.rank(), static_cast<int64_t>(i));
  world.reduce_scatter(Tensor::of(mine, {own, 3}), Tensor::of(whole, {total, 3}), counts);
  int64_t begin = 0;
  for (int r = 0; r < world.rank(); ++r) begin += 3 * counts[static_cast<size_t>(r)];
  for (size_t i = 0; i < mine.size(); ++i) {
    float sum = part(0, begin + static_cast<int64_t>(i));
    for (int r = 1; r < world.size(); ++r) sum += part(r, begin + static_cast<int64_t>(i));
    ASSERT_EQ(mine[i], sum) << i;
  }
}

inline void expect_broadcast(Communicator& world) {
  for (int root = 0; root < world.size(); ++root) {
    const std::string text(static_cast<size_t>(1000 * root), static_cast<char>('a' + root));
    EXPECT_EQ(broadcast_text(world, world.rank() == root ? text : "other", root), text);
  }
}

// Two exchanges in flight, waited for in reverse order; a rank may send nothing or receive nothing.
inline void expect_exchanges_match_in_order(Communicator& world) {
  const int down = (world.rank() + world.size() - 1) % world.size(), up = (world.rank() + 1) % world.size();
  std::vector<double> first(1000, world.rank()), second(10, 100 + world.rank()), got_first(1000), got_second(10);
  auto a = world.start_exchange(Tensor::of(first, {1000}), down, Tensor::of(got_first, {1000}), up);
  auto b = world.start_exchange(Tensor::of(second, {10}), down, Tensor::of(got_second, {10}), up);
  b->poll();
  b->wait();
  a->wait();
  EXPECT_EQ(got_first, std::vector<double>(1000, up));
  EXPECT_EQ(got_second, std::vector<double>(10, 100 + up));
  // Only from rank 0 to the last.
  std::vector<double> message(7, 3.5 * (world.rank() == 0));
  const bool sends = world.rank() == 0, receives = world.rank() == world.size() - 1;
  const Tensor view = Tensor::of(message, {7});
  world
      .start_exchange(sends ? view : Tensor(), world.size() - 1, receives ? view : Tensor(), 0,
                      Communicator::Kind::kMessage)
      ->wait();
  EXPECT_EQ(message[6], sends || receives ? 3.5 : 0);
}

inline void expect_split(Communicator& world) {
  // Even and odd ranks, each in reverse order.
  auto half = world.split(world.rank() % 2, -world.rank(), "half");
  EXPECT_EQ(half->name(), "half");
  const int members = (world.size() + 1 - world.rank() % 2) / 2;
  EXPECT_EQ(half->size(), members);
  EXPECT_EQ(half->rank(), members - 1 - world.rank() / 2);
  int64_t sum = 0;
  for (int r = world.rank() % 2; r < world.size(); r += 2) sum += r;
  EXPECT_EQ(half->sum(int64_t{world.rank()}), sum);
}

inline void expect_agreement(Communicator& world) {
  EXPECT_NO_THROW(agree(world, [] {}));
  const auto thrown = [&](const std::function<void()>& body) -> std::pair<int, std::string> {
    try {
      agree(world, body);
    } catch (const Error& error) {
      return {static_cast<int>(error.code()), error.what()};
    }
    return {0, ""};
  };
  // If one rank fails, all get its error. If two fail, the higher code wins; with equal codes, the lower rank.
  EXPECT_EQ(thrown([&] {
              if (world.rank() == 1) fail(ExitCode::kInputOutput, "disk full on one");
            }),
            std::make_pair(74, std::string("disk full on one")));
  EXPECT_EQ(thrown([&] {
              if (world.rank() == 0) fail(ExitCode::kBadInput, "bad");
              if (world.rank() == 1) fail(ExitCode::kCannotCreate, "worse");
            }),
            std::make_pair(73, std::string("worse")));
  EXPECT_EQ(thrown([&] { fail(ExitCode::kBadInput, "rank {}", world.rank()); }),
            std::make_pair(65, std::string("rank 0")));
}

inline void expect_traffic_counts(Communicator& world) {
  const int64_t ranks = world.size();
  std::vector<float> x(static_cast<size_t>(120 * ranks)), y(static_cast<size_t>(120 * ranks * ranks));
  const Tensor small = Tensor::of(x, {120 * ranks}), large = Tensor::of(y, {120 * ranks * ranks});
  world.reset_traffic();
  world.all_reduce(small, Reduction::kSum);
  world.all_gather(large, small);
  world.reduce_scatter(small, large);
  EXPECT_EQ(world.traffic().all_reduce.bytes, 2 * (ranks - 1) * 120 * 4);
  EXPECT_EQ(world.traffic().all_gather.bytes, (ranks - 1) * 120 * ranks * 4);
  EXPECT_EQ(world.traffic().reduce_scatter.bytes, (ranks - 1) * 120 * ranks * 4);
  world.reset_traffic();
  const int up = (world.rank() + 1) % world.size(), down = (world.rank() + world.size() - 1) % world.size();
  world.start_exchange(small, up, large.slice(0, 0, 120 * ranks), down)->wait();
  EXPECT_EQ(world.traffic().shift.calls, 1);
  EXPECT_EQ(world.traffic().total_bytes(), 120 * ranks * 4);
}

// Several collectives in flight at once, with others in between, waited for in another order. Whole numbers are exact
// in any order of addition. A call may carry several tensors, some of them empty.
inline void expect_collectives_under_way(Communicator& world) {
  const int64_t ranks = world.size(), rank = world.rank(), all_ranks = ranks * (ranks - 1) / 2;
  const std::vector<int64_t> counts = uneven_rows(world);
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  const int64_t own = counts[static_cast<size_t>(rank)];
  std::vector<double> a(1000, static_cast<double>(rank)), b(7, static_cast<double>(rank + 1)), empty;
  std::vector<double> part(static_cast<size_t>(3 * own), static_cast<double>(rank)),
      whole(static_cast<size_t>(3 * total));
  std::vector<float> x(static_cast<size_t>(5 * ranks)), y(5), more(static_cast<size_t>(2 * total)),
      mine(static_cast<size_t>(2 * own));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) + 100 * static_cast<float>(rank);
  for (size_t i = 0; i < more.size(); ++i) more[i] = static_cast<float>(i) - static_cast<float>(rank);
  std::vector<int64_t> between{rank};

  world.reset_traffic();
  auto sums =
      world.start_all_reduces({Tensor::of(a, {1000}), Tensor::of(empty, {0}), Tensor::of(b, {7})}, Reduction::kSum);
  auto gather = world.start_all_gather(Tensor::of(whole, {total, 3}), Tensor::of(part, {own, 3}), counts);
  world.all_reduce(Tensor::of(between, {1}), Reduction::kMax);
  auto scatters = world.start_reduce_scatters(
      {{Tensor::of(y, {5}), Tensor::of(x, {5 * ranks}), std::vector<int64_t>(static_cast<size_t>(ranks), 5)},
       {Tensor::of(mine, {own, 2}), Tensor::of(more, {total, 2}), counts}});
  scatters->poll();
  scatters->wait();
  gather->wait();
  sums->wait();

  EXPECT_EQ(between[0], ranks - 1);
  EXPECT_EQ(a, std::vector<double>(1000, static_cast<double>(all_ranks)));
  EXPECT_EQ(b, std::vector<double>(7, static_cast<double>(all_ranks + ranks)));
  size_t at = 0;
  int64_t begin = 0;
  for (int r = 0; r < world.size(); ++r) {
    if (r < rank) begin += 2 * counts[static_cast<size_t>(r)];
    for (int64_t i = 0; i < 3 * counts[static_cast<size_t>(r)]; ++i) EXPECT_EQ(whole[at++], r);
  }
  for (size_t i = 0; i < y.size(); ++i)
    EXPECT_EQ(y[i], static_cast<float>(ranks * (5 * rank + static_cast<int64_t>(i)) + 100 * all_ranks));
  for (size_t i = 0; i < mine.size(); ++i)
    EXPECT_EQ(mine[i], static_cast<float>(ranks * (begin + static_cast<int64_t>(i)) - all_ranks));

  // Traffic is counted once, as for the same calls without start.
  const Traffic started = world.traffic();
  world.reset_traffic();
  world.all_reduce(Tensor::of(a, {1000}), Reduction::kSum);
  world.all_reduce(Tensor::of(b, {7}), Reduction::kSum);
  world.all_reduce(Tensor::of(empty, {0}), Reduction::kSum);
  world.all_reduce(Tensor::of(between, {1}), Reduction::kMax);
  world.all_gather(Tensor::of(whole, {total, 3}), Tensor::of(part, {own, 3}), counts);
  world.reduce_scatter(Tensor::of(y, {5}), Tensor::of(x, {5 * ranks}));
  world.reduce_scatter(Tensor::of(mine, {own, 2}), Tensor::of(more, {total, 2}), counts);
  EXPECT_EQ(started.total_bytes(), world.traffic().total_bytes());
  EXPECT_EQ(started.total_calls(), world.traffic().total_calls());
}

// For transports that choose the order of sums: small whole numbers, whose sums are exact in every type and order.
template <class T>
void expect_exact_sums(Communicator& world) {
  const auto number = [](int rank, int64_t i) { return T(static_cast<double>((i * 7 + rank * 3) % 32)); };
  for (const int64_t count : {0, 1, 3, 1000, 5000}) {
    std::vector<T> x(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) x[static_cast<size_t>(i)] = number(world.rank(), i);
    world.all_reduce(Tensor::of(x, {count}), Reduction::kSum);
    for (int64_t i = 0; i < count; ++i) {
      double sum = 0;
      for (int r = 0; r < world.size(); ++r) sum += static_cast<double>(number(r, i));
      ASSERT_EQ(static_cast<double>(x[static_cast<size_t>(i)]), sum) << count << " elements, " << i;
    }
  }
  for (const bool even : {true, false}) {
    const std::vector<int64_t> counts =
        even ? std::vector<int64_t>(static_cast<size_t>(world.size()), 5) : uneven_rows(world);
    const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    const int64_t own = counts[static_cast<size_t>(world.rank())];
    std::vector<T> whole(static_cast<size_t>(3 * total)), mine(static_cast<size_t>(3 * own));
    for (size_t i = 0; i < whole.size(); ++i) whole[i] = number(world.rank(), static_cast<int64_t>(i));
    world.reduce_scatter(Tensor::of(mine, {own, 3}), Tensor::of(whole, {total, 3}), counts);
    int64_t begin = 0;
    for (int r = 0; r < world.rank(); ++r) begin += 3 * counts[static_cast<size_t>(r)];
    for (size_t i = 0; i < mine.size(); ++i) {
      double sum = 0;
      for (int r = 0; r < world.size(); ++r) sum += static_cast<double>(number(r, begin + static_cast<int64_t>(i)));
      ASSERT_EQ(static_cast<double>(mine[i]), sum) << (even ? "even " : "uneven ") << i;
    }
  }
}
inline void expect_exact_sums_in_every_type(Communicator& world) {
  expect_exact_sums<double>(world);
  expect_exact_sums<float>(world);
  expect_exact_sums<bfloat16>(world);
}

// The same sum on every rank and every time, close to the sum in rank order.
inline void expect_sums_to_repeat(Communicator& world) {
  const auto sum = [&] {
    std::vector<float> x(5000);
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = static_cast<float>(random_normal(1, static_cast<uint64_t>(world.rank()), i));
    world.all_reduce(Tensor::of(x, {5000}), Reduction::kSum);
    return x;
  };
  const std::vector<float> first = sum();
  for (int again = 0; again < 3; ++again) ASSERT_EQ(sum(), first);
  std::vector<float> of_rank_0 = first;
  world.broadcast(Tensor::of(of_rank_0, {5000}), 0);
  EXPECT_EQ(of_rank_0, first);
  for (size_t i = 0; i < first.size(); ++i) {
    double exact = 0;
    for (int r = 0; r < world.size(); ++r) exact += static_cast<float>(random_normal(1, static_cast<uint64_t>(r), i));
    ASSERT_NEAR(first[i], exact, 1e-5);
  }
}

}  // namespace carillon::testing
