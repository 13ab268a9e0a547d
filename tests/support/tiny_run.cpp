#include "tests/support/tiny_run.h"

#include <mutex>
#include <numeric>

#include "parallel/transport/thread_communicator.h"
#include "runtime/rng.h"
#include "tests/support/device_memory.h"

namespace carillon::testing {
namespace {

// The five tensors of whole sequences, [B, length].
struct WholeBatch {
  std::vector<int64_t> tokens, position, first, target;
  std::vector<double> weight;

  WholeBatch(const std::vector<const TinySequence*>& sequences) {
    for (const TinySequence* sequence : sequences) {
      int64_t begin = 0;
      for (int64_t length : sequence->document_lengths) {
        for (int64_t i = 0; i < length; ++i) {
          const bool has_target = i + 1 < length;
          tokens.push_back(sequence->tokens[begin + i]);
          position.push_back(i);
          first.push_back(begin);
          target.push_back(has_target ? sequence->tokens[begin + i + 1] : -1);
          weight.push_back(!has_target ? 0 : sequence->weights.empty() ? 1 : sequence->weights[begin + i + 1]);
          if (weight.back() == 0) target.back() = has_target ? target.back() : -1;
        }
        begin += length;
      }
    }
  }
  MicroBatch view(int64_t batch) {
    const int64_t length = static_cast<int64_t>(tokens.size()) / batch;
    return {Tensor::of(tokens, {batch, length}), Tensor::of(position, {batch, length}),
            Tensor::of(first, {batch, length}), Tensor::of(target, {batch, length}),
            Tensor::of(weight, {batch, length})};
  }
};

// Sets this rank's rectangle in the global tensor.
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
    const SequenceLayout layout(run.layout, length, run.grid.context, run.grid.tensor);
    const TensorShards shards(run.config, run.grid.tensor, grid.tp_rank);
    const int64_t per_step = static_cast<int64_t>(run.sequences.size()) / run.grid.data;
    const int64_t batch = per_step / run.accumulation;

    auto allocate = [&](Arena& arena, Arena& host) {
      auto parameters =
          std::make_unique<Parameters>(run.config, shards, ParameterOptions{run.compute, true, run.zero == 2}, arena);
      auto transformer = std::make_unique<Transformer>(
          *backend, grid, run.config, shards, *parameters, layout,
          TransformerOptions{run.compute, run.recompute, true, batch, run.loss_chunk_rows, length, run.mlp_tile,
                             offloads_checkpoints(run.offload), run.tensor_chunks},
          arena, &host);
      ShardedOptimizer::Options options;
      options.zero = run.zero;
      options.max_grad_norm = run.max_grad_norm;
      options.offload = offloads_optimizer(run.offload);
      options.offload_chunk = run.offload_chunk;
      auto optimizer = std::make_unique<ShardedOptimizer>(*backend, grid, parameters->shared(), options, arena, &host);
      return std::tuple(std::move(parameters), std::move(transformer), std::move(optimizer));
    };
    Arena measuring, measuring_host;
    allocate(measuring, measuring_host);
    Arena arena(backend->allocate(measuring.peak())), host(backend->allocate_host(measuring_host.peak()));
    auto [parameters, transformer, optimizer] = allocate(arena, host);
    CHECK(host.used() == measuring_host.used(), "host memory is allocated twice alike", host.used());
    parameters->initialize(*backend, run.config.initializer_range, run.seed);
    move(*backend, *parameters);
    optimizer->start_from_weights();
    transformer->set_rotation(run.config, length);

    ShardedBatch sharded(layout, grid.cp_rank, batch);
    for (int step = 0; step < run.steps; ++step) {
      optimizer->zero_gradients();
      double loss = 0, weight = 0;
      for (int micro = 0; micro < run.accumulation; ++micro) {
        std::vector<const TinySequence*> mine;
        std::vector<int64_t> numbers;
        for (int64_t b = 0; b < batch; ++b) {
          const int64_t number = (micro * batch + b) * run.grid.data + grid.dp_rank;
          mine.push_back(&run.sequences[number]);
          numbers.push_back(number);
        }
        WholeBatch whole(mine);
        const MicroBatch& local = sharded.shard(whole.view(batch));
        optimizer->begin_micro_step(micro + 1 == run.accumulation);
        transformer->forward_backward(local, optimizer->gradients_hold(),
                                      [&](int64_t layer) { optimizer->group_done(layer); });
        optimizer->after_micro_step();
        loss += transformer->weighted_loss();
        for (double w : local.target_weight.span<double>()) weight += w;
        if (step == 0) collect_losses(*backend, layout, grid, *transformer, numbers);
      }
      loss = grid.dp_cp->sum(loss);
      weight = grid.dp_cp->sum(weight);
      const auto outcome = optimizer->step(weight, run.learning_rate, 0.9);
      if (step == 0 && run.zero == 0 && grid.dp_cp->rank() == 0) collect_gradients(*backend, *parameters);
      if (grid.world->rank() == 0) {
        result.loss.push_back(loss / weight);
        result.gradient_norm.push_back(outcome.gradient_norm);
      }
    }
    const std::lock_guard lock(mutex);
    parameters->for_each(
        [&](Parameter& p) { put(result.weights[p.name], p.rectangle, values_of(*backend, p.weight)); });
    if (grid.world->size() == 1)
      for (const NamedShard& shard : optimizer->state_shards())
        result.state[shard.name] = shard.device == nullptr ? host_values(shard.data) : values_of(*backend, shard.data);
    if (grid.world->rank() == 0) result.device_bytes = arena.peak(), result.host_bytes = host.peak();
  }

  static std::vector<double> host_values(Tensor tensor) {
    const auto host = make_backend({.device = "reference"});
    return values_of(*host, tensor);
  }
  static std::vector<double> values_of(Backend& backend, Tensor tensor) {
    return tensor.empty() ? std::vector<double>() : download_as_double(backend, tensor);
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

  // After the step: every dp_cp rank has all sums, and so has every replica over tp.
  void collect_gradients(Backend& backend, Parameters& parameters) {
    const std::lock_guard lock(mutex);
    parameters.for_each(
        [&](Parameter& p) { put(result.gradients[p.name], p.rectangle, values_of(backend, p.gradient)); });
  }

  void collect_losses(Backend& backend, const SequenceLayout& layout, const ProcessGrid& grid,
                      const Transformer& transformer, const std::vector<int64_t>& numbers) {
    if (grid.tp_rank != 0) return;
    const std::lock_guard lock(mutex);
    const std::vector<double> losses = download_as_double(backend, transformer.losses());
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
