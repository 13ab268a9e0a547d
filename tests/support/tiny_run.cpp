#include "tests/support/tiny_run.h"

#include <mutex>
#include <numeric>

#include "model/gradient_step.h"
#include "model/long_loss.h"
#include "parallel/transport/thread_communicator.h"
#include "runtime/rng.h"
#include "tests/support/device_memory.h"

namespace carillon::testing {
namespace {

HostBatch whole_batch(const std::vector<const TinySequence*>& sequences) {
  const auto length = static_cast<int64_t>(sequences.front()->tokens.size());
  HostBatch batch(static_cast<int64_t>(sequences.size()), length);
  size_t row = 0;
  for (const TinySequence* sequence : sequences) {
    int64_t begin = 0;
    for (const int64_t document : sequence->document_lengths) {
      for (int64_t i = 0; i < document; ++i, ++row) {
        batch.tokens[row] = sequence->tokens[begin + i];
        batch.position[row] = i;
        batch.first[row] = begin;
        batch.reach[row] = document;
        if (i + 1 == document) continue;
        batch.target[row] = sequence->tokens[begin + i + 1];
        batch.target_weight[row] = sequence->weights.empty() ? 1 : sequence->weights[begin + i + 1];
      }
      begin += document;
    }
  }
  return batch;
}

// Copies this rank's rectangle into the global tensor.
void put(std::vector<double>& global, const Rectangle& rectangle, const std::vector<double>& values) {
  int64_t total = 1;
  for (int64_t size : rectangle.global_shape) total *= size;
  global.resize(static_cast<size_t>(total));
  const int64_t columns = rectangle.extent.size() == 2 ? rectangle.extent[1] : 1;
  const int64_t row_length = rectangle.global_shape.size() == 2 ? rectangle.global_shape[1] : 1;
  const int64_t column_offset = rectangle.offset.size() == 2 ? rectangle.offset[1] : 0;
  for (int64_t row = 0; row < rectangle.extent[0]; ++row)
    for (int64_t column = 0; column < columns; ++column) {
      global[static_cast<size_t>((rectangle.offset[0] + row) * row_length + column_offset + column)] =
          values[static_cast<size_t>(row * columns + column)];
    }
}

struct Rank {
  const TinyRun& run;
  TinyResult& result;
  std::mutex& mutex;

  void operator()(std::unique_ptr<Communicator> world) {
    const auto backend = run.backend
                             ? run.backend()
                             : make_test_backend({.device = run.device, .threads = 1, .device_index = world->rank()});
    const int kv_replicas = static_cast<int>(
        run.grid.tensor > run.config.num_key_value_heads ? run.grid.tensor / run.config.num_key_value_heads : 1);
    ProcessGrid grid = make_process_grid(std::move(world), run.grid, kv_replicas);
    for_device(*backend, grid);
    if (run.tensor_group) grid.tp = run.tensor_group(std::move(grid.tp));
    const int64_t length = static_cast<int64_t>(run.sequences.front().tokens.size());
    const int64_t per_step = static_cast<int64_t>(run.sequences.size()) / run.grid.data;
    const int64_t batch = per_step / run.accumulation;
    Network network(*backend, grid, run.config, network_options(length, batch));
    Parameters& parameters = network.parameters();
    ShardedOptimizer& optimizer = network.optimizer();
    if (run.random_rotation)
      parameters.for_each([](Parameter& p) { p.initial = p.rotation ? Initial::kFanIn : p.initial; });
    if (run.random_adapter)
      parameters.for_each([](Parameter& p) { p.initial = p.adapter ? Initial::kNormal : p.initial; });
    parameters.initialize(*backend, *grid.tp, run.config.initializer_range, run.seed);
    if (run.random_rotation) soften_rotation(*backend, parameters);
    move(*backend, parameters);
    optimizer.start_from_weights();
    network.transformer().set_rotation(run.config, length);

    ShardedBatch sharded(network.layout(), grid.cp_rank, batch);
    std::optional<LongLoss> long_loss;
    if (run.long_loss) long_loss.emplace(network, grid, *run.long_loss);
    MicroBatch weighed;
    for (int step = 0; step < run.steps; ++step) {
      // A learned rotation has a different table in each step.
      if (run.config.rope.type == RopeType::kClex) network.transformer().set_rotation(run.config, length);
      std::vector<int64_t> numbers;  // of the sequences in the latest micro-step
      const auto next = [&](int64_t micro) -> const MicroBatch& {
        if (step == 0) collect_losses(network, grid, numbers);
        numbers.clear();
        std::vector<const TinySequence*> mine;
        for (int64_t b = 0; b < batch; ++b) {
          numbers.push_back((micro * batch + b) * run.grid.data + grid.dp_rank);
          mine.push_back(&run.sequences[numbers.back()]);
        }
        HostBatch whole = whole_batch(mine);
        for (size_t b = 0; b < numbers.size(); ++b)
          whole.sequence[b] = step * static_cast<int64_t>(run.sequences.size()) + numbers[b];
        if (!long_loss) return sharded.shard(whole.view());
        return weighed = long_loss->weigh(whole.view(), sharded.shard(whole.view()));
      };
      const StepSums sums = accumulate_gradients(network, grid, run.accumulation, next);
      if (step == 0) collect_losses(network, grid, numbers);
      if (long_loss) {
        std::vector<double> plain{long_loss->take_sums().cross_entropy};
        grid.dp_cp->all_reduce(Tensor::of(plain, {1}), Reduction::kSum);
        if (grid.world->rank() == 0) result.cross_entropy.push_back(plain[0] / sums.weight);
      }
      const auto outcome = optimizer.step(sums.weight, run.learning_rate, 0.9);
      if (step == 0 && run.zero == 0 && grid.dp_cp->rank() == 0) collect_gradients(*backend, parameters);
      if (grid.world->rank() == 0) {
        result.loss.push_back(sums.loss / sums.weight);
        result.gradient_norm.push_back(outcome.gradient_norm);
      }
    }
    const std::lock_guard lock(mutex);
    parameters.for_each([&](Parameter& p) {
      put(result.weights[p.name], p.rectangle, p.quantized ? dequantized(*backend, p) : values_of(*backend, p.weight));
    });
    if (grid.world->size() == 1)
      for (const NamedShard& shard : optimizer.state_shards())
        result.state[shard.name] = shard.device == nullptr ? host_values(shard.data) : values_of(*backend, shard.data);
    if (grid.world->rank() == 0) result.device_bytes = network.bytes(), result.host_bytes = network.host_bytes();
  }

  NetworkOptions network_options(int64_t length, int64_t batch) const {
    NetworkOptions options;
    options.compute = run.compute;
    options.batch = batch;
    options.sequence_length = length;
    options.layout = run.layout;
    options.loss_chunk_rows = run.loss_chunk_rows;
    options.tensor_chunks = run.tensor_chunks;
    options.recompute = run.recompute;
    options.mlp_tile = run.mlp_tile;
    options.dropout_seed = run.seed;
    options.offload = run.offload;
    options.optimizer.zero = run.zero;
    options.optimizer.max_grad_norm = run.max_grad_norm;
    options.optimizer.offload_chunk = run.offload_chunk;
    return options;
  }

  static std::vector<double> host_values(Tensor tensor) {
    const auto host = make_backend({.device = "reference"});
    return values_of(*host, tensor);
  }
  static std::vector<double> values_of(Backend& backend, Tensor tensor) {
    return tensor.empty() ? std::vector<double>() : download_as_double(backend, tensor);
  }

  std::vector<double> dequantized(Backend& backend, const Parameter& p) const {
    const Buffer memory = backend.allocate(static_cast<size_t>(p.rectangle.count()) * size_of(run.compute));
    const Tensor values(memory.data(), run.compute, {p.rectangle.extent[0], p.rectangle.extent[1]});
    backend.dequantize(values, p.quantized);
    return values_of(backend, values);
  }

  // Gives a learned rotation values as after some steps: different from the start, and still valid. Float64 only.
  static void soften_rotation(Backend& backend, Parameters& parameters) {
    std::vector<double> values = download_as_double(backend, parameters.ode_down.weight);
    for (double& value : values) value *= 0.1;
    backend.upload(parameters.ode_down.weight,
                   Tensor(values.data(), DType::kFloat64, parameters.ode_down.weight.shape()));
  }

  // Float64 only.
  void move(Backend& backend, Parameters& parameters) {
    if (run.move.distance == 0) return;
    parameters.for_each([&](Parameter& p) {
      if (p.name != run.move.name) return;
      CHECK(p.weight.count() == static_cast<int64_t>(run.move.direction.size()), "moves are for one rank");
      std::vector<double> values = download_as_double(backend, p.weight);
      for (size_t i = 0; i < values.size(); ++i) values[i] += run.move.distance * run.move.direction[i];
      backend.upload(p.weight, Tensor(values.data(), DType::kFloat64, p.weight.shape()));
    });
  }

  // After the step: every dp_cp rank has all sums, and so does every replica over tp.
  void collect_gradients(Backend& backend, Parameters& parameters) {
    const std::lock_guard lock(mutex);
    parameters.for_each([&](Parameter& p) {
      if (!p.frozen) put(result.gradients[p.name], p.rectangle, values_of(backend, p.gradient));
    });
  }

  // Nothing to collect if no micro-step has run.
  void collect_losses(Network& network, const ProcessGrid& grid, const std::vector<int64_t>& numbers) {
    if (grid.tp_rank != 0 || numbers.empty()) return;
    const std::lock_guard lock(mutex);
    const SequenceLayout& layout = network.layout();
    const std::vector<double> losses = download_as_double(network.backend(), network.transformer().losses());
    result.token_loss.resize(run.sequences.size(), std::vector<double>(static_cast<size_t>(layout.length())));
    for (size_t b = 0; b < numbers.size(); ++b)
      for (int64_t i = 0; i < layout.local(); ++i) {
        const int64_t index = layout.index_of(grid.cp_rank, i);
        if (index < layout.length()) result.token_loss[numbers[b]][index] = losses[b * layout.local() + i];
      }
  }
};

}  // namespace

TinyResult run_tiny(const TinyRun& run) {
  TinyResult result;
  std::mutex mutex;
  run_ranks(run.grid.size(), Rank{run, result, mutex});
  return result;
}

void set_depth(ModelConfig& config, int64_t layers) {
  config.num_hidden_layers = layers;
  config.layers.assign(static_cast<size_t>(layers), config.layers.front());
}

ModelConfig tiny_config() {
  return parse_model_config(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 131,
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
    "max_position_embeddings": 64, "initializer_range": 0.3, "rope_theta": 10000.0})",
                            "tiny");
}

std::vector<TinySequence> tiny_sequences(int count, int64_t length, int64_t vocabulary,
                                         std::vector<int64_t> document_lengths, uint64_t seed) {
  std::vector<TinySequence> sequences(count);
  for (int s = 0; s < count; ++s) {
    for (int64_t i = 0; i < length; ++i)
      sequences[s].tokens.push_back(static_cast<int64_t>(random_below(vocabulary, seed, s, i)));
    sequences[s].document_lengths = document_lengths.empty() ? std::vector<int64_t>{length} : document_lengths;
  }
  return sequences;
}

}  // namespace carillon::testing
