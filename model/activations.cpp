#include "model/activations.h"

#include <algorithm>

namespace carillon {
namespace {

// One set of the tensors of a layer that may be kept; `prefix` names the role in the arena.
struct LayerAllocator {
  const ModelConfig& config;
  const TensorShards& shards;
  const ActivationShape& shape;
  Arena& arena;
  std::string prefix;

  DType accumulate() const { return accumulate_type(shape.compute); }
  int64_t qkv_width() const { return (shards.heads + 2 * shards.kv_heads) * config.head_dim; }
  Tensor allocate(const char* name, DType dtype, std::initializer_list<int64_t> sizes) {
    return arena.allocate(prefix + name, dtype, sizes);
  }

  void input(LayerActivations& layer) {
    layer.input = allocate("input", shape.compute, {shape.shard_rows, config.hidden_size});
  }
  void attention(LayerActivations& layer) {
    layer.attention = allocate("attention", shape.compute, {shape.rows, shards.heads * config.head_dim});
    layer.lse = allocate("lse", accumulate(), {shape.batch, shards.heads, shape.local});
  }
  // The MLP's output, if a norm follows it.
  void output(LayerActivations& layer, const LayerSpec& spec) {
    if (!spec.norm_after()) return;
    layer.mlp_output = allocate("mlp_output", shape.compute, {shape.shard_rows, config.hidden_size});
    layer.mlp_output_rstd = allocate("mlp_output_rstd", accumulate(), {shape.shard_rows});
  }
  void rest(LayerActivations& layer, const LayerSpec& spec) {
    if (spec.norm_before()) layer.input_rstd = allocate("input_rstd", accumulate(), {shape.shard_rows});
    layer.qkv_raw = layer.qkv = allocate("qkv", shape.compute, {shape.rows, qkv_width()});
    if (spec.attention.qk_norm != QkNorm::kNone) {
      const bool whole = spec.attention.qk_norm == QkNorm::kProjection;
      layer.qkv =
          allocate("qkv_normed", shape.compute, {shape.rows, (shards.heads + shards.kv_heads) * config.head_dim});
      layer.q_rstd = allocate("q_rstd", accumulate(), {shape.rows, whole ? 1 : shards.heads});
      layer.k_rstd = allocate("k_rstd", accumulate(), {shape.rows, whole ? 1 : shards.kv_heads});
    }
    if (spec.norm_after()) {
      layer.attention_output = allocate("attention_output", shape.compute, {shape.shard_rows, config.hidden_size});
      layer.attention_output_rstd = allocate("attention_output_rstd", accumulate(), {shape.shard_rows});
    }
    layer.middle = allocate("middle", shape.compute, {shape.shard_rows, config.hidden_size});
    if (spec.norm_before()) layer.middle_rstd = allocate("middle_rstd", accumulate(), {shape.shard_rows});
    layer.gate_up = allocate("gate_up", shape.compute, {shape.mlp_rows, 2 * shards.mlp.size()});
  }
};

}  // namespace

Activations allocate_kept_activations(const ModelConfig& config, const TensorShards& shards,
                                      const ActivationShape& shape, Arena& arena) {
  LayerAllocator kept{config, shards, shape, arena, "activations."};
  Activations activations;
  activations.layers.resize(static_cast<size_t>(config.num_hidden_layers));
  if (shape.training) {
    for (size_t index = 0; index < activations.layers.size(); ++index) {
      LayerActivations& layer = activations.layers[index];
      if (shape.offloaded && index >= 2) {
        layer = activations.layers[index - 2];
        continue;
      }
      const LayerSpec& spec = config.layers[index];
      kept.input(layer);
      if (shape.recompute != Recompute::kFull) kept.attention(layer), kept.output(layer, spec);
      if (shape.recompute == Recompute::kNone) kept.rest(layer, spec);
    }
    activations.output = kept.allocate("output", shape.compute, {shape.shard_rows, config.hidden_size});
  }
  activations.output_rstd = kept.allocate("output_rstd", accumulate_type(shape.compute), {shape.shard_rows});
  return activations;
}

void allocate_shared_activations(const ModelConfig& config, const TensorShards& shards, const ActivationShape& shape,
                                 Arena& arena, Activations& activations) {
  LayerAllocator shared{config, shards, shape, arena, "work.layer."};
  // The shared memory covers whatever any of the layers needs.
  LayerSpec any;
  for (const LayerSpec& spec : config.layers) {
    if (spec.attention.qk_norm != QkNorm::kNone) any.attention.qk_norm = spec.attention.qk_norm;
    if (spec.norm_after()) any.norms = spec.norms;
  }
  if (any.norms == NormPlacement::kAfter && config.any([](const LayerSpec& spec) { return spec.norm_before(); }))
    any.norms = NormPlacement::kBoth;
  LayerActivations common;
  const bool keeps_attention = shape.training && shape.recompute != Recompute::kFull;
  const bool keeps_rest = shape.training && shape.recompute == Recompute::kNone;
  if (!keeps_attention) shared.attention(common), shared.output(common, any);
  if (!keeps_rest) shared.rest(common, any);
  // A forward pass alone needs one residual, updated from layer to layer.
  if (!shape.training) shared.input(common);
  for (LayerActivations& layer : activations.layers) {
    LayerActivations whole = common;
    if (shape.training) whole.input = layer.input;
    if (keeps_attention) {
      whole.attention = layer.attention, whole.lse = layer.lse;
      whole.mlp_output = layer.mlp_output, whole.mlp_output_rstd = layer.mlp_output_rstd;
    }
    layer = keeps_rest ? layer : whole;
  }
  if (!shape.training) activations.output = common.input;
}

WorkingMemory allocate_persistent_memory(const ModelConfig& config, const ActivationShape& shape, Arena& arena) {
  const auto allocate = [&](const char* name) {
    return arena.allocate(std::string("work.") + name, shape.compute, {shape.shard_rows, config.hidden_size});
  };
  WorkingMemory work;
  work.normed = allocate("normed");
  if (!shape.training) return work;
  work.branch_gradient = allocate("branch_gradient");
  return work;
}

namespace {

LowRankWork adapter_memory(const ModelConfig& config, const TensorShards& shards, const ActivationShape& shape,
                           Arena& arena) {
  // The largest sum of ranks over the targets of one product.
  int64_t ranks = 0;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
    for (const std::vector<std::string>& targets : {std::vector<std::string>{"q_proj", "k_proj", "v_proj"},
                                                    {"o_proj"},
                                                    {"gate_proj", "up_proj"},
                                                    {"down_proj"}}) {
      int64_t sum = 0;
      for (const std::string& target : targets) {
        const auto found = config.adapter.modules.find(module_name(layer, target));
        if (found != config.adapter.modules.end()) sum += found->second.rank;
      }
      ranks = std::max(ranks, sum);
    }
  LowRankWork work;
  if (config.adapter.base_quantization != Quantization::kNone) {
    // The largest weight of a product.
    const int64_t channels = config.hidden_size, heads = shards.heads, kv_heads = shards.kv_heads;
    const int64_t rows =
        std::max({(heads + 2 * kv_heads) * config.head_dim, heads * config.head_dim, 2 * shards.mlp.size()});
    work.base = arena.allocate("work.base", shape.compute, {rows * channels});
  }
  work.low = arena.allocate("work.adapter", shape.compute, {shape.rows * ranks});
  if (!shape.training) return work;
  work.low_gradient = arena.allocate("work.adapter_gradient", shape.compute, {shape.rows * ranks});
  if (!shape.drops(config)) return work;
  const int64_t widest = std::max({shape.rows * config.hidden_size, shape.rows * shards.heads * config.head_dim,
                                   shape.mlp_rows * shards.mlp.size()});
  work.wide = arena.allocate("work.adapter_input", shape.compute, {widest});
  return work;
}

}  // namespace

void allocate_transient_memory(const ModelConfig& config, const TensorShards& shards, const ActivationShape& shape,
                               Arena& arena, WorkingMemory& work) {
  const int64_t channels = config.hidden_size;
  const int64_t width = config.head_dim;
  auto allocate = [&](const char* name, int64_t rows, int64_t columns) {
    return arena.allocate(std::string("work.") + name, shape.compute, {rows, columns});
  };
  work.swiglu = allocate("swiglu", shape.mlp_rows, shards.mlp.size());
  if (shards.tp > 1) {
    work.gathered = allocate("gathered", shape.rows, channels);
    work.partial = allocate("partial", shape.rows, channels);
  }
  const bool projections =
      config.any([](const LayerSpec& spec) { return spec.attention.qk_norm == QkNorm::kProjection; });
  if (shards.tp > 1 && projections)
    work.row_sums = arena.allocate("work.row_sums", accumulate_type(shape.compute), {2, shape.rows});
  if (config.adapter) work.adapter = adapter_memory(config, shards, shape, arena);
  if (!shape.training) return;
  if (config.any([](const LayerSpec& spec) { return spec.norm_after() || spec.residual_multiplier != 1; }))
    work.output_gradient = allocate("output_gradient", shape.shard_rows, channels);
  work.residual_gradient = allocate("residual_gradient", shape.shard_rows, channels);
  if (shards.tp > 1) work.gathered_gradient = allocate("gathered_gradient", shape.rows, channels);
  work.swiglu_gradient = allocate("swiglu_gradient", shape.mlp_rows, shards.mlp.size());
  work.attention_gradient = allocate("attention_gradient", shape.rows, shards.heads * width);
  work.qkv_gradient = allocate("qkv_gradient", shape.rows, (shards.heads + 2 * shards.kv_heads) * width);
}

BatchOnDevice allocate_batch(const ModelConfig& config, const ActivationShape& shape, Arena& arena) {
  BatchOnDevice batch;
  batch.tokens = arena.allocate("batch.tokens", DType::kInt64, {shape.rows});
  batch.position = arena.allocate("batch.position", DType::kInt64, {shape.rows});
  for (size_t window = 0; window < config.windows().size(); ++window)
    batch.first.push_back(arena.allocate("batch.first", DType::kInt64, {shape.batch, shape.local}));
  if (shape.drops(config)) batch.row = arena.allocate("batch.row", DType::kInt64, {shape.rows});
  batch.query_factor = arena.allocate("batch.query_factor", accumulate_type(shape.compute), {shape.rows});
  return batch;
}

}  // namespace carillon
