#include "launch/train/layout_check.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "launch/session/session.h"
#include "launch/train/training_state.h"
#include "launch/train/training_step.h"

namespace carillon {
namespace {

// A minimal run: no log, no checkpoints, constant learning rate (a schedule is the same on every layout).
class Steps {
 public:
  Steps(Session& session, ProcessGrid& grid, const RunConfig& config, const Corpus& corpus)
      : config_(config), grid_(grid), training_(session.backend(), grid, session.model().config, config, corpus) {
    training_.start_fresh(session.model(), session.notice());
  }

  // Returns the loss and gradient norm of step `step`; zeros if the step has no targets.
  std::pair<double, double> take(int64_t step) {
    const StepSums sums = training_.accumulate(step * training_.loader().block());
    if (sums.weight == 0) return {0, 0};  // a step without targets changes nothing, as in training
    const auto outcome =
        training_.network().optimizer().step(sums.weight, config_.train.learning_rate, config_.train.adamw.beta1);
    return {sums.loss / sums.weight, outcome.gradient_norm};
  }

  std::vector<NamedShard> shards() { return checkpoint_shards(training_.network(), grid_); }

 private:
  const RunConfig& config_;
  ProcessGrid& grid_;
  TrainingStep training_;
};

std::vector<double> values_of(Backend& backend, const NamedShard& shard) {
  return shard.data.empty() ? std::vector<double>() : download_as_double(backend, shard.data);
}

// A tensor's difference is relative to its own largest entry, but at least to this share of the largest entry of all
// tensors: some gradients are mathematically zero (a key bias in a layer that does not rotate) and contain only
// rounding errors.
constexpr double kSmallestShare = 1e-3;

// How far AdamW may carry apart the weights of runs whose gradients agree. It divides an averaged gradient by its size
// √v + ε, so a gradient that is mathematically zero moves its weight by rounding errors / ε in every step.
class CarriedRounding {
 public:
  // one: the run on one rank, after `steps` updates. A gradient counts as agreeing within `tolerance` of kSmallestShare
  // of the largest, as in differences().
  CarriedRounding(Backend& backend, const std::vector<NamedShard>& one, const TrainSection& train, int64_t steps,
                  double tolerance)
      : distance_(2 * train.learning_rate * static_cast<double>(steps)), epsilon_(train.adamw.epsilon) {
    const double correction = 1 - std::pow(train.adamw.beta2, static_cast<double>(steps));
    double largest = 0;
    for (const NamedShard& shard : one) {
      if (!shard.name.starts_with(kSecondMoments)) continue;
      std::vector<double>& sizes = sizes_[shard.name.substr(kSecondMoments.size())] = values_of(backend, shard);
      for (double& size : sizes) {
        size = std::sqrt(size / correction);
        largest = std::max(largest, size);
      }
    }
    gradient_ = tolerance * kSmallestShare * largest;
  }

  // Of entry `index` of the weight called `name`.
  double of(const std::string& name, int64_t index) const {
    const double size = sizes_.at(name)[static_cast<size_t>(index)];
    return distance_ * std::min(1.0, gradient_ / (size + epsilon_));
  }

 private:
  inline static const std::string kSecondMoments = "optimizer/exp_avg_sq/";
  std::map<std::string, std::vector<double>> sizes_;  // √v of every entry, without its bias
  double distance_;  // the most by which two runs part: an update is about the learning rate at most
  double epsilon_, gradient_ = 0;
};

// Returns, for each tensor of `one` whose name begins with `role`, in order, the largest difference from this rank's
// part in `many`, relative as above. carried: for weights, what is not counted of an entry's difference.
std::vector<double> differences(Backend& backend, const std::string& role, const std::vector<NamedShard>& one,
                                const std::vector<NamedShard>& many, const CarriedRounding* carried = nullptr) {
  std::map<std::string, std::vector<const NamedShard*>> parts;
  for (const NamedShard& shard : many) parts[shard.name].push_back(&shard);
  std::vector<double> result, sizes;
  for (const NamedShard& whole : one) {
    if (!whole.name.starts_with(role)) continue;
    double largest = 0, worst = 0;
    const std::vector<double> all = values_of(backend, whole);
    for (const double value : all) largest = std::max(largest, std::abs(value));
    for (const NamedShard* part : parts[whole.name]) {
      const Rectangle& at = part->rectangle;
      const bool matrix = at.extent.size() == 2;
      const int64_t columns = matrix ? at.extent[1] : 1, width = matrix ? at.global_shape[1] : 1;
      const int64_t first_column = matrix ? at.offset[1] : 0;
      const std::vector<double> own = values_of(backend, *part);
      for (int64_t i = 0; i < part->data.count(); ++i) {
        const int64_t there = (at.offset[0] + i / columns) * width + first_column + i % columns;
        double difference = std::abs(own[static_cast<size_t>(i)] - all[static_cast<size_t>(there)]);
        if (carried != nullptr) difference -= carried->of(whole.name.substr(role.size()), there);
        worst = std::max(worst, std::isnan(difference) ? INFINITY : difference);
      }
    }
    result.push_back(worst);
    sizes.push_back(largest);
  }
  const double floor = sizes.empty() ? 0 : kSmallestShare * *std::max_element(sizes.begin(), sizes.end());
  for (size_t i = 0; i < result.size(); ++i)
    if (result[i] > 0) result[i] /= std::max({sizes[i], floor, 1e-300});
  return result;
}

void largest_over_ranks(Communicator& world, std::vector<double>& values) {
  world.all_reduce(Tensor::of(values, {static_cast<int64_t>(values.size())}), Reduction::kMax);
}

double relative(double a, double b) { return a == b ? 0 : std::abs(a - b) / std::max(std::abs(b), 1e-300); }

double default_tolerance(DType dtype) {
  return dtype == DType::kFloat64 ? 1e-9 : dtype == DType::kFloat32 ? 1e-3 : 0.1;
}

}  // namespace

bool LayoutCheck::agrees() const {
  const auto holds = [&](double value) { return value <= tolerance; };
  return holds(loss) && holds(gradient_norm) && std::all_of(tensors.begin(), tensors.end(), [&](const auto& tensor) {
           return holds(tensor.gradient) && holds(tensor.weight);
         });
}

LayoutCheck check_layout(std::unique_ptr<Communicator> world, RunConfig config, const LayoutCheckOptions& options,
                         const Notice& notice) {
  if (options.dtype) config.runtime.dtype = *options.dtype;
  Session session(std::move(world), config.parallel, config.runtime, notice);
  session.open_model(config);
  session.open_tokenizer(config.data.tokenizer.value_or(""));
  OpenedModel& model = session.model();
  if (options.shrink) {
    model.config.num_hidden_layers = std::min<int64_t>(model.config.num_hidden_layers, 2);
    model.source.reset();
  }
  session.start_device(/*trains=*/true);
  const Corpus corpus = open_training_data(
      session.world(), config, model.config, session.tokenizer(), [](const std::string&) {}, notice);
  session.make_grid();

  // The same sequences per step: one rank takes in one micro-batch what the data-parallel ranks take in parallel.
  RunConfig alone = config;
  alone.parallel = {};
  alone.parallel.zero = 0;
  alone.train.micro_batch_size *= session.grid().shape.data;
  Steps many(session, session.grid(), config, corpus);
  ProcessGrid solo;
  std::optional<Steps> one;
  agree(session.world(), [&] {
    solo = make_grid(session.backend(), solo_communicator("world"), NodeMap(), alone.parallel, model.config, notice);
    one.emplace(session, solo, alone, corpus);
  });

  LayoutCheck check{config.runtime.dtype,
                    options.tolerance > 0 ? options.tolerance : default_tolerance(config.runtime.dtype),
                    0,
                    0,
                    {}};
  const std::string first_moments = "optimizer/exp_avg/", weights = "model/";
  std::vector<double> gradient;
  for (int64_t step = 0; step < options.steps; ++step) {
    const auto [loss, norm] = many.take(step);
    const auto [loss_alone, norm_alone] = one->take(step);
    check.loss = std::max(check.loss, relative(loss, loss_alone));
    check.gradient_norm = std::max(check.gradient_norm, relative(norm, norm_alone));
    // After one update the first moment is the gradient, averaged and clipped, times 1 - beta1.
    if (step == 0) gradient = differences(session.backend(), first_moments, one->shards(), many.shards());
  }
  const std::vector<NamedShard> shards = one->shards();
  const CarriedRounding carried(session.backend(), shards, config.train, options.steps, check.tolerance);
  std::vector<double> weight = differences(session.backend(), weights, shards, many.shards(), &carried);
  std::vector<double> scalars = {check.loss, check.gradient_norm};
  for (auto* values : {&gradient, &weight, &scalars}) largest_over_ranks(session.world(), *values);
  check.loss = scalars[0], check.gradient_norm = scalars[1];
  std::map<std::string, double> gradient_of;
  size_t next = 0;
  for (const NamedShard& shard : shards)
    if (shard.name.starts_with(first_moments)) gradient_of[shard.name.substr(first_moments.size())] = gradient[next++];
  next = 0;
  for (const NamedShard& shard : shards)
    if (shard.name.starts_with(weights)) {
      const std::string name = shard.name.substr(weights.size());
      check.tensors.push_back({name, gradient_of[name], weight[next++]});
    }
  return check;
}

}  // namespace carillon
