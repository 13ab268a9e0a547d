#include "model/parameters.h"

#include "model/clex.h"
#include "model/families/family.h"
#include "runtime/rng.h"

namespace carillon {
namespace {

// Allocates weights and gradients of equal shape from one arena; gradients have the accumulate type.
struct TensorAllocator {
  const ParameterOptions& options;
  Arena& arena;
  bool gradients;             // whether gradients are currently being allocated
  Quantization quantization;  // of the weights of linear layers

  Tensor weight(std::initializer_list<int64_t> shape) { return arena.allocate("weights", options.compute, shape); }
  Tensor gradient(std::initializer_list<int64_t> shape) {
    if (!gradients) return {};
    return arena.allocate("gradients", accumulate_type(options.compute), shape);
  }
  // Allocates the quantised form of this rectangle of a matrix.
  QuantizedMatrix quantized(const Rectangle& rectangle) {
    QuantizedMatrix matrix;
    matrix.kind = quantization;
    matrix.rows = rectangle.extent[0], matrix.width = rectangle.extent[1];
    matrix.first_row = rectangle.offset[0], matrix.first_column = rectangle.offset[1];
    matrix.columns = rectangle.global_shape[1];
    const bool nf4 = quantization == Quantization::kNf4;
    matrix.codes = arena.allocate("weights.codes", DType::kUInt8, {matrix.code_bytes()});
    matrix.scales =
        arena.allocate("weights.scales", nf4 ? DType::kUInt8 : DType::kFloat32, {matrix.rows * matrix.row_blocks()});
    if (nf4) {
      const int64_t values = rectangle.global_shape[0] * rectangle.global_shape[1];
      matrix.table = arena.allocate("weights.scales", DType::kFloat32, {ScaleTable::size(values)});
    }
    return matrix;
  }
};

Tensor rows_of(Tensor tensor, int64_t begin, int64_t end) { return tensor ? tensor.rows(begin, end) : Tensor(); }

Parameter make_parameter(std::string name, Rectangle rectangle, Tensor weight, Tensor gradient) {
  Parameter parameter;
  parameter.name = std::move(name);
  parameter.rectangle = std::move(rectangle);
  parameter.weight = weight;
  parameter.gradient = gradient;
  parameter.decays = parameter.rectangle.global_shape.size() == 2;
  return parameter;
}

// A replicated vector of which each tp rank computes the gradient only for its own rows or heads.
Parameter replicated(std::string name, Tensor weight, Tensor gradient, int tp, Initial initial) {
  Parameter parameter = make_parameter(std::move(name), Rectangle::whole(weight.shape()), weight, gradient);
  parameter.tp_replicas = tp;
  parameter.tp_partial = tp > 1;
  parameter.initial = initial;
  return parameter;
}

class LayerAllocator {
 public:
  LayerAllocator(const ModelConfig& config, const TensorShards& shards, TensorAllocator& allocator)
      : config_(config), shards_(shards), allocator_(allocator) {}

  LayerParameters weights(int64_t index) {
    spec_ = &config_.layers[static_cast<size_t>(index)];
    const int64_t channels = config_.hidden_size;
    const int64_t width = config_.head_dim;
    const int64_t qkv = (shards_.heads + 2 * shards_.kv_heads) * width;
    const int64_t mlp = shards_.mlp.size();
    prefix_ = fmt::format("model.layers.{}.", index);
    LayerParameters layer;
    if (!quantizes()) layer.qkv.weight = allocator_.weight({qkv, channels});
    if (spec_->attention.qkv_bias) layer.qkv.bias = allocator_.weight({qkv});
    if (!quantizes()) layer.gate_up.weight = allocator_.weight({2 * mlp, channels});
    if (spec_->mlp.bias) layer.gate_up.bias = allocator_.weight({2 * mlp});
    return layer;
  }

  void gradients(LayerParameters& layer) {
    if (!allocator_.gradients) return;
    const int64_t channels = config_.hidden_size;
    layer.qkv.weight_gradient = allocator_.gradient({layer.qkv.weight.size(0), channels});
    if (layer.qkv.bias) layer.qkv.bias_gradient = allocator_.gradient({layer.qkv.bias.size(0)});
    layer.gate_up.weight_gradient = allocator_.gradient({layer.gate_up.weight.size(0), channels});
    if (layer.gate_up.bias) layer.gate_up.bias_gradient = allocator_.gradient({layer.gate_up.bias.size(0)});
  }

  void name_all(LayerParameters& layer) {
    const int64_t channels = config_.hidden_size;
    const int64_t width = config_.head_dim;
    const int tp = shards_.tp;
    const Initial neutral = config_.norm_weight_offset == 1 ? Initial::kZeros : Initial::kOnes;
    auto norm = [&](const char* name, int64_t size) {
      Parameter parameter =
          replicated(prefix_ + name, allocator_.weight({size}), allocator_.gradient({size}), tp, neutral);
      parameter.overwritten = true;
      return parameter;
    };
    auto output_bias = [&](const char* name) {
      return replicated(prefix_ + name, allocator_.weight({channels}), allocator_.gradient({channels}), tp,
                        Initial::kZeros);
    };

    if (spec_->norm_before()) layer.input_norm = norm("input_layernorm.weight", channels);
    const Range heads{shards_.head_range.begin * width, shards_.head_range.end * width};
    const Range kv_heads{shards_.kv_head_range.begin * width, shards_.kv_head_range.end * width};
    const int64_t query_rows = config_.num_attention_heads * width;
    const int64_t kv_rows = config_.num_key_value_heads * width;
    const int64_t k_begin = heads.size();
    const int64_t v_begin = k_begin + kv_heads.size();
    layer.q_weight = rows(layer.qkv, 0, "self_attn.q_proj.weight", query_rows, heads);
    layer.k_weight = kv(rows(layer.qkv, k_begin, "self_attn.k_proj.weight", kv_rows, kv_heads));
    layer.v_weight = kv(rows(layer.qkv, v_begin, "self_attn.v_proj.weight", kv_rows, kv_heads));
    if (layer.qkv.bias) {
      layer.q_bias = slice(layer.qkv.bias, layer.qkv.bias_gradient, 0, "self_attn.q_proj.bias", query_rows, heads);
      layer.k_bias =
          kv(slice(layer.qkv.bias, layer.qkv.bias_gradient, k_begin, "self_attn.k_proj.bias", kv_rows, kv_heads));
      layer.v_bias =
          kv(slice(layer.qkv.bias, layer.qkv.bias_gradient, v_begin, "self_attn.v_proj.bias", kv_rows, kv_heads));
    }
    if (spec_->attention.qk_norm == QkNorm::kProjection) {
      layer.q_norm = heads_vector(config_.family->q_norm, query_rows, heads, neutral);
      layer.k_norm = kv(heads_vector(config_.family->k_norm, kv_rows, kv_heads, neutral));
      layer.q_norm.overwritten = layer.k_norm.overwritten = true;
    } else if (spec_->attention.qk_norm != QkNorm::kNone) {
      layer.q_norm = norm(config_.family->q_norm, width);
      layer.k_norm = norm(config_.family->k_norm, width);
    }
    if (spec_->attention.sinks)
      layer.sinks = heads_vector("self_attn.sinks", config_.num_attention_heads, shards_.head_range, Initial::kNormal);
    layer.o_weight = columns("self_attn.o_proj.weight", query_rows, heads);
    layer.output = linear_of(layer.o_weight);
    if (spec_->attention.o_bias) layer.o_bias = output_bias("self_attn.o_proj.bias");
    if (spec_->norm_after()) layer.attention_output_norm = norm("post_attention_layernorm.weight", channels);
    if (spec_->norm_before())
      layer.mlp_norm =
          norm(spec_->norm_after() ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight", channels);

    const int64_t up_begin = shards_.mlp.size();
    const int64_t mlp_rows = config_.intermediate_size;
    layer.gate_weight = rows(layer.gate_up, 0, "mlp.gate_proj.weight", mlp_rows, shards_.mlp);
    layer.up_weight = rows(layer.gate_up, up_begin, "mlp.up_proj.weight", mlp_rows, shards_.mlp);
    if (layer.gate_up.bias) {
      layer.gate_bias =
          slice(layer.gate_up.bias, layer.gate_up.bias_gradient, 0, "mlp.gate_proj.bias", mlp_rows, shards_.mlp);
      layer.up_bias =
          slice(layer.gate_up.bias, layer.gate_up.bias_gradient, up_begin, "mlp.up_proj.bias", mlp_rows, shards_.mlp);
    }
    layer.down_weight = columns("mlp.down_proj.weight", mlp_rows, shards_.mlp);
    layer.down = linear_of(layer.down_weight);
    if (spec_->mlp.bias) layer.down_bias = output_bias("mlp.down_proj.bias");
    if (spec_->norm_after()) layer.mlp_output_norm = norm("post_feedforward_layernorm.weight", channels);
  }

 private:
  bool quantizes() const { return allocator_.quantization != Quantization::kNone; }

  // Rows [begin, begin + part) of a column-parallel layer's weight, which are rows `part` of the global parameter.
  Parameter rows(Linear& linear, int64_t begin, const char* name, int64_t total, Range part) {
    if (!quantizes()) return slice(linear.weight, linear.weight_gradient, begin, name, total, part);
    const int64_t channels = config_.hidden_size;
    Parameter parameter = quantized(name, {{total, channels}, {part.begin, 0}, {part.size(), channels}});
    linear.quantized.push_back(parameter.quantized);
    return parameter;
  }
  Parameter quantized(const char* name, Rectangle rectangle) {
    const QuantizedMatrix matrix = allocator_.quantized(rectangle);
    Parameter parameter = make_parameter(prefix_ + name, std::move(rectangle), {}, {});
    parameter.quantized = matrix;
    return parameter;
  }

  // Rows [begin, begin + part) of a fused tensor, which are rows `part` of the global parameter with `total` rows.
  Parameter slice(Tensor fused, Tensor fused_gradient, int64_t begin, const char* name, int64_t total, Range part) {
    const int64_t end = begin + part.size();
    Rectangle rectangle = fused.rank() == 2
                              ? Rectangle{{total, fused.size(1)}, {part.begin, 0}, {part.size(), fused.size(1)}}
                              : Rectangle{{total}, {part.begin}, {part.size()}};
    Parameter parameter = make_parameter(prefix_ + name, std::move(rectangle), rows_of(fused, begin, end),
                                         rows_of(fused_gradient, begin, end));
    if (fused.rank() == 1) parameter.initial = Initial::kZeros;
    parameter.overwritten = fused.rank() == 2;
    return parameter;
  }

  // Elements `part` of a vector of `total` elements, one or more per head.
  Parameter heads_vector(const char* name, int64_t total, Range part, Initial initial) {
    Parameter parameter = make_parameter(prefix_ + name, Rectangle{{total}, {part.begin}, {part.size()}},
                                         allocator_.weight({part.size()}), allocator_.gradient({part.size()}));
    parameter.initial = initial;
    return parameter;
  }

  static Linear linear_of(const Parameter& weight) {
    Linear linear;
    linear.weight = weight.weight, linear.weight_gradient = weight.gradient;
    if (weight.quantized) linear.quantized = {weight.quantized};
    return linear;
  }

  Parameter kv(Parameter parameter) const {
    parameter.tp_replicas = shards_.kv_replicas;
    parameter.tp_partial = shards_.kv_replicas > 1;
    return parameter;
  }

  // A row-parallel weight [C, total], of which this rank holds columns `part`.
  Parameter columns(const char* name, int64_t total, Range part) {
    const int64_t channels = config_.hidden_size;
    Rectangle rectangle{{channels, total}, {0, part.begin}, {channels, part.size()}};
    if (quantizes()) return quantized(name, std::move(rectangle));
    Parameter parameter =
        make_parameter(prefix_ + name, std::move(rectangle), allocator_.weight({channels, part.size()}),
                       allocator_.gradient({channels, part.size()}));
    parameter.overwritten = true;
    return parameter;
  }

  const ModelConfig& config_;
  const TensorShards& shards_;
  TensorAllocator& allocator_;
  const LayerSpec* spec_ = nullptr;
  std::string prefix_;
};

// The adapters of one layer: lora_A and lora_B of every target, and the views of them that the linear layers use.
class AdapterAllocator {
 public:
  AdapterAllocator(const ModelConfig& config, const TensorShards& shards, TensorAllocator& allocator)
      : config_(config), shards_(shards), allocator_(allocator) {}

  void allocate(LayerParameters& layer, int64_t index) {
    index_ = index;
    layer_ = &layer;
    const int64_t width = config_.head_dim;
    const Range heads{shards_.head_range.begin * width, shards_.head_range.end * width};
    const Range kv_heads{shards_.kv_head_range.begin * width, shards_.kv_head_range.end * width};
    const int64_t queries = config_.num_attention_heads * width, keys = config_.num_key_value_heads * width;
    const int64_t inner = config_.intermediate_size;
    column_parallel(layer.qkv, {{"q_proj", queries, heads, 1},
                                {"k_proj", keys, kv_heads, shards_.kv_replicas},
                                {"v_proj", keys, kv_heads, shards_.kv_replicas}});
    row_parallel(layer.output, "o_proj", queries, heads);
    column_parallel(layer.gate_up, {{"gate_proj", inner, shards_.mlp, 1}, {"up_proj", inner, shards_.mlp, 1}});
    row_parallel(layer.down, "down_proj", inner, shards_.mlp);
  }

 private:
  struct Part {
    const char* target;
    int64_t total;  // outputs of the whole layer
    Range part;     // this rank's part of them
    int replicas;   // tp ranks that hold the same part
  };

  const AdapterModule* find(const std::string& target) const {
    const auto found = config_.adapter.modules.find(module_name(index_, target));
    return found == config_.adapter.modules.end() ? nullptr : &found->second;
  }

  void column_parallel(Linear& linear, const std::vector<Part>& parts) {
    const int64_t channels = config_.hidden_size;
    int64_t ranks = 0;
    for (const Part& part : parts)
      if (const AdapterModule* module = find(part.target)) ranks += module->rank;
    if (ranks == 0) return;
    linear.adapter.a = allocator_.weight({ranks, channels});
    linear.adapter.a_gradient = allocator_.gradient({ranks, channels});
    int64_t first_rank = 0, first_output = 0;
    for (const Part& part : parts) {
      const Range outputs{first_output, first_output + part.part.size()};
      first_output = outputs.end;
      const AdapterModule* module = find(part.target);
      if (module == nullptr) continue;
      const int64_t rank = module->rank;
      LowRankTarget target = make_target(part.target, *module, outputs, {first_rank, first_rank + rank});
      first_rank += rank;
      target.b = allocator_.weight({outputs.size(), rank});
      target.b_gradient = allocator_.gradient({outputs.size(), rank});
      add(adapter_a_name(module_name(index_, part.target)), Rectangle{{rank, channels}, {0, 0}, {rank, channels}},
          rows_of(linear.adapter.a, target.ranks.begin, target.ranks.end),
          rows_of(linear.adapter.a_gradient, target.ranks.begin, target.ranks.end), shards_.tp, Initial::kFanIn);
      add(adapter_b_name(module_name(index_, part.target)),
          Rectangle{{part.total, rank}, {part.part.begin, 0}, {part.part.size(), rank}}, target.b, target.b_gradient,
          part.replicas, Initial::kZeros);
      linear.adapter.targets.push_back(target);
    }
  }

  void row_parallel(Linear& linear, const char* name, int64_t total, Range inputs) {
    const AdapterModule* module = find(name);
    if (module == nullptr) return;
    const int64_t rank = module->rank, channels = config_.hidden_size;
    LowRank& adapter = linear.adapter;
    adapter.a = allocator_.weight({rank, inputs.size()});
    adapter.a_gradient = allocator_.gradient({rank, inputs.size()});
    adapter.first_input = inputs.begin;
    LowRankTarget target = make_target(name, *module, {0, channels}, {0, rank});
    target.b = allocator_.weight({channels, rank});
    target.b_gradient = allocator_.gradient({channels, rank});
    add(adapter_a_name(module_name(index_, name)), Rectangle{{rank, total}, {0, inputs.begin}, {rank, inputs.size()}},
        adapter.a, adapter.a_gradient, 1, Initial::kFanIn);
    add(adapter_b_name(module_name(index_, name)), Rectangle{{channels, rank}, {0, 0}, {channels, rank}}, target.b,
        target.b_gradient, shards_.tp, Initial::kZeros);
    adapter.targets.push_back(target);
  }

  LowRankTarget make_target(const char* name, const AdapterModule& module, Range outputs, Range ranks) const {
    LowRankTarget target;
    target.outputs = outputs;
    target.ranks = ranks;
    target.scale = config_.adapter.scale(module);
    target.stream = stream_of(module_name(index_, name));
    return target;
  }

  // Adds a parameter that `replicas` ranks hold; each of them computes the gradient for its own rows, columns or heads.
  void add(std::string name, Rectangle rectangle, Tensor weight, Tensor gradient, int replicas, Initial initial) {
    Parameter parameter = make_parameter(std::move(name), std::move(rectangle), weight, gradient);
    parameter.initial = initial;
    parameter.adapter = true;
    parameter.tp_replicas = replicas;
    parameter.tp_partial = replicas > 1;
    parameter.overwritten = true;
    layer_->adapters.push_back(std::move(parameter));
  }

  const ModelConfig& config_;
  const TensorShards& shards_;
  TensorAllocator& allocator_;
  int64_t index_ = 0;
  LayerParameters* layer_ = nullptr;
};

// Layers with the same parameters can take turns with the gradient memory of two layers: while one is written, the
// other is being reduced.
bool same_parameters(const LayerSpec& a, const LayerSpec& b) {
  return a.norms == b.norms && a.mlp.bias == b.mlp.bias && a.attention.qkv_bias == b.attention.qkv_bias &&
         a.attention.o_bias == b.attention.o_bias && a.attention.sinks == b.attention.sinks &&
         (a.attention.qk_norm == QkNorm::kNone) == (b.attention.qk_norm == QkNorm::kNone) &&
         (a.attention.qk_norm == QkNorm::kProjection) == (b.attention.qk_norm == QkNorm::kProjection);
}
void borrow_gradients(LayerParameters& layer, LayerParameters& lender) {
  layer.qkv.weight_gradient = lender.qkv.weight_gradient;
  layer.qkv.bias_gradient = lender.qkv.bias_gradient;
  layer.gate_up.weight_gradient = lender.gate_up.weight_gradient;
  layer.gate_up.bias_gradient = lender.gate_up.bias_gradient;
  std::vector<Tensor> gradients;
  lender.for_each([&](Parameter& parameter) { gradients.push_back(parameter.gradient); });
  size_t next = 0;
  layer.for_each([&](Parameter& parameter) { parameter.gradient = gradients[next++]; });
  layer.output.weight_gradient = layer.o_weight.gradient;
  layer.down.weight_gradient = layer.down_weight.gradient;
}

}  // namespace

TensorShards::TensorShards(const ModelConfig& config, int tp_size, int rank)
    : tp(tp_size),
      tp_rank(rank),
      kv_replicas(tp_size > config.num_key_value_heads ? static_cast<int>(tp_size / config.num_key_value_heads) : 1),
      head_range(share_of(config.num_attention_heads, tp_size, rank)),
      kv_head_range(share_of(config.num_key_value_heads, tp_size / kv_replicas, rank / kv_replicas)),
      mlp(share_of(config.intermediate_size, tp_size, rank)),
      vocabulary(share_of(config.vocab_size, tp_size, rank)) {
  heads = head_range.size();
  kv_heads = kv_head_range.size();
  CHECK(config.num_attention_heads % tp_size == 0, "require_tensor_parallel lets no other tp through",
        config.num_attention_heads, tp_size);
}

Parameters::Parameters(const ModelConfig& config, const TensorShards& shards, const ParameterOptions& options,
                       Arena& arena)
    : shards_(shards) {
  const bool frozen = static_cast<bool>(config.adapter), gradients = options.gradients && !frozen;
  TensorAllocator allocator{options, arena, gradients, frozen ? config.adapter.base_quantization : Quantization::kNone};
  const int64_t channels = config.hidden_size;
  auto vocabulary_rows = [&](const char* name) {
    return make_parameter(
        name,
        Rectangle{{config.vocab_size, channels}, {shards.vocabulary.begin, 0}, {shards.vocabulary.size(), channels}},
        allocator.weight({shards.vocabulary.size(), channels}),
        allocator.gradient({shards.vocabulary.size(), channels}));
  };
  embedding = vocabulary_rows("model.embed_tokens.weight");
  LayerAllocator layer_allocator(config, shards, allocator);
  AdapterAllocator adapters(config, shards, allocator);
  for (int64_t index = 0; index < config.num_hidden_layers; ++index) {
    const bool borrow =
        gradients && options.shared_layer_gradients && index > 1 &&
        same_parameters(config.layers[static_cast<size_t>(index)], config.layers[static_cast<size_t>(index - 2)]);
    allocator.gradients = gradients && !borrow;
    LayerParameters layer = layer_allocator.weights(index);
    layer_allocator.gradients(layer);
    layer_allocator.name_all(layer);
    allocator.gradients = options.gradients;
    if (frozen) adapters.allocate(layer, index);
    layer.for_each([&](Parameter& parameter) { parameter.group = index; });
    if (borrow) borrow_gradients(layer, layers[static_cast<size_t>(index - 2)]);
    layers.push_back(std::move(layer));
  }
  allocator.gradients = gradients;
  norm = replicated("model.norm.weight", allocator.weight({channels}), allocator.gradient({channels}), shards.tp,
                    config.norm_weight_offset == 1 ? Initial::kZeros : Initial::kOnes);
  norm.overwritten = true;
  if (config.rope.type == RopeType::kClex) {
    const int64_t pairs = config.rotary_pairs(), hidden = clex_hidden(config.rope, pairs);
    // Each tensor rank computes the gradient for its own heads.
    const auto learned = [&](const char* name, int64_t rows, int64_t columns, Initial initial) {
      Parameter parameter =
          replicated(name, allocator.weight({rows, columns}), allocator.gradient({rows, columns}), shards.tp, initial);
      parameter.rotation = true;
      return parameter;
    };
    ode_up = learned(kOdeUp, pairs, hidden, Initial::kFanIn);
    ode_down = learned(kOdeDown, hidden, pairs, Initial::kZeros);
  }
  if (!config.tie_word_embeddings) lm_head = vocabulary_rows("lm_head.weight");
  (lm_head ? lm_head : embedding).overwritten = true;     // by the loss, before the embedding adds its own
  norm.group = lm_head.group = config.num_hidden_layers;  // before the layers'
  for_each([&](Parameter& parameter) { parameter.frozen = frozen && !parameter.adapter; });
}

int64_t ModelConfig::parameter_count() const {
  Arena measuring;
  ParameterOptions options;
  options.gradients = false;
  Parameters parameters(*this, TensorShards(*this, 1, 0), options, measuring);
  int64_t count = 0;
  parameters.for_each([&](Parameter& parameter) { count += parameter.rectangle.count(); });
  return count;
}

}  // namespace carillon
