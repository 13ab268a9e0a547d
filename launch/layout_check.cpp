#include "launch/layout_check.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "data/batch_loader.h"
#include "data/token_store.h"
#include "launch/network.h"
#include "launch/ranks.h"
#include "launch/training_state.h"

namespace carillon {
namespace {

// A run in little: no log, no checkpoints, constant learning rate (a schedule is the same on every layout).
class Steps {
 public:
  Steps(Backend& backend, std::unique_ptr<Communicator> world, const RunConfig& config, OpenedModel& model,
        const TokenStore& store, const Notice& notice)
      : config_(config), grid_(make_grid(std::move(world), config.parallel, model.config)) {
    const int64_t micro = config.train.micro_batch_size;
    loader_.emplace(
        store, BatchLoaderOptions{config.data.sequence_length, micro, config.train.gradient_accumulation_steps,
                                  config.data.packing, config.data.shuffle, static_cast<uint64_t>(config.train.seed),
                                  grid_.dp_rank, grid_.shape.data});
    NetworkOptions options;
    options.compute = config.runtime.dtype;
    options.batch = micro;
    options.sequence_length = config.data.sequence_length;
    options.layout = config.parallel.layout;
    options.recompute = config.train.recompute;
    options.optimizer = {};
    options.optimizer.zero = static_cast<int>(config.parallel.zero);
    options.optimizer.beta1 = config.train.adam_beta1;
    options.optimizer.beta2 = config.train.adam_beta2;
    options.optimizer.epsilon = config.train.adam_epsilon;
    options.optimizer.weight_decay = config.train.weight_decay;
    options.optimizer.max_grad_norm = config.train.max_grad_norm.value_or(0);
    network_ = std::make_unique<Network>(backend, grid_, model.config, options);
    sharded_ = std::make_unique<ShardedBatch>(network_->layout(), grid_.cp_rank, micro);
    network_->transformer().set_rotation(
        make_rope_table(model.config.rope, model.config.head_dim, config.data.sequence_length));
    if (model.source)
      load_weights(*grid_.world, *model.source, network_->parameters(), notice);
    else
      network_->parameters().initialize(backend, model.config.initializer_range,
                                        static_cast<uint64_t>(config.train.seed));
    network_->optimizer().start_from_weights();
  }

  // Loss and gradient norm of step `step`.
  std::pair<double, double> take(int64_t step) {
    network_->optimizer().zero_gradients();
    double sums[] = {0, 0};
    for (int64_t micro = 0; micro < config_.train.gradient_accumulation_steps; ++micro) {
      const BatchLoader::Views whole = loader_->get(step, micro);
      const MicroBatch& local =
          sharded_->shard({whole.tokens, whole.position, whole.first, whole.target, whole.target_weight});
      network_->transformer().forward_backward(local, [&](int64_t layer) { network_->optimizer().group_done(layer); });
      network_->optimizer().after_micro_step();
      sums[0] += network_->transformer().weighted_loss();
      for (const double weight : local.target_weight.span<double>()) sums[1] += weight;
    }
    grid_.z->all_reduce(Tensor(sums, DType::kFloat64, {2}), Reduction::kSum);
    const auto outcome = network_->optimizer().step(sums[1], config_.train.learning_rate, config_.train.adam_beta1);
    return {sums[0] / sums[1], outcome.gradient_norm};
  }

  std::vector<NamedShard> shards() { return checkpoint_shards(*network_, grid_); }
  Communicator& world() { return *grid_.world; }

 private:
  const RunConfig& config_;
  ProcessGrid grid_;
  std::unique_ptr<Network> network_;
  std::optional<BatchLoader> loader_;
  std::unique_ptr<ShardedBatch> sharded_;
};

double value_at(const Tensor& tensor, int64_t index) {
  return dispatch_floating(tensor.dtype(), [&](auto type) {
    using T = decltype(type);
    return static_cast<double>(tensor.data<T>()[index]);
  });
}

// Of every tensor of `one` whose name begins with `role`, in its order: the largest difference of this rank's part in
// `many`.
std::vector<double> differences(const std::string& role, const std::vector<NamedShard>& one,
                                const std::vector<NamedShard>& many) {
  std::map<std::string, std::vector<const NamedShard*>> parts;
  for (const NamedShard& shard : many) parts[shard.name].push_back(&shard);
  std::vector<double> result;
  for (const NamedShard& whole : one) {
    if (!whole.name.starts_with(role)) continue;
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < whole.data.count(); ++i) largest = std::max(largest, std::abs(value_at(whole.data, i)));
    for (const NamedShard* part : parts[whole.name]) {
      const Rectangle& at = part->rectangle;
      const bool matrix = at.extent.size() == 2;
      const int64_t columns = matrix ? at.extent[1] : 1, width = matrix ? at.global_shape[1] : 1;
      const int64_t first_column = matrix ? at.offset[1] : 0;
      for (int64_t i = 0; i < part->data.count(); ++i) {
        const int64_t there = (at.offset[0] + i / columns) * width + first_column + i % columns;
        const double difference = std::abs(value_at(part->data, i) - value_at(whole.data, there));
        worst = std::max(worst, std::isnan(difference) ? INFINITY : difference);
      }
    }
    result.push_back(worst == 0 ? 0 : worst / std::max(largest, 1e-300));
  }
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
  const GridShape shape = grid_shape(config.parallel, world->size());
  OpenedModel model;
  if (config.model.base) {
    model = open_model(*world, *config.model.base, config.rope.settings, notice);
  } else {
    model.config = parse_model_config(config.model.config_json(), "the configuration's model:", ExitCode::kUsage);
    model.config.rope = merge_rope_config(model.config.rope, config.rope.settings, "rope");
  }
  const auto tokenizer = open_tokenizer(*world, config.data.tokenizer.value_or(""), model.source.get());
  if (options.shrink) {
    model.config.num_hidden_layers = std::min<int64_t>(model.config.num_hidden_layers, 2);
    model.source.reset();
  }
  const auto backend = make_backend(config.runtime, notice);
  std::vector<std::string> paths;
  for (const DataSource& source : config.data.train) paths.push_back(source.path);
  std::optional<uint32_t> end_of_document;
  if (tokenizer) end_of_document = tokenizer->eos();
  agree(*world, [&] {
    std::error_code error;
    if (world->rank() == 0) std::filesystem::create_directories(config.output, error);
  });
  const TokenStore store =
      TokenStore::open(*world, paths, tokenizer.get(), end_of_document, model.config.vocab_size, config.output, notice);

  // The same sequences in a step: what data-parallel ranks take side by side, one rank takes in one micro-batch.
  RunConfig alone = config;
  alone.parallel = {};
  alone.parallel.zero = 0;
  alone.train.micro_batch_size *= shape.data;
  Steps many(*backend, std::move(world), config, model, store, notice);
  std::optional<Steps> one;
  agree(many.world(), [&] { one.emplace(*backend, solo_communicator("world"), alone, model, store, notice); });

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
    if (step == 0) gradient = differences(first_moments, one->shards(), many.shards());
  }
  const std::vector<NamedShard> shards = one->shards();
  std::vector<double> weight = differences(weights, shards, many.shards());
  std::vector<double> scalars = {check.loss, check.gradient_norm};
  for (auto* values : {&gradient, &weight, &scalars}) largest_over_ranks(many.world(), *values);
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
