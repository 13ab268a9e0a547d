// The weights of this tensor-parallel rank: the only place that knows the parameters' names, shapes and shards.
// Initialising, loading, saving, gradient reduction, the optimizer and inspection all use for_each().
//
// Weights are [out, in] (y = x·Wᵀ + b) and named as in Hugging Face's state dict. The query, key and value projections
// are concatenated in memory, and so are gate and up, so that each group is one product; the named parameters are row
// slices of it. Over tp, query heads, key/value heads, MLP columns and vocabulary rows are split; norms are replicated.
// With fewer key/value heads than ranks, tp / heads neighbouring ranks hold the same head.
//
// Adapters (ModelConfig::adapter) are parameters like others, named as in PEFT's state dict; parallel/tensor/low_rank.h
// says how they are split over tp. If there are any, all other parameters are frozen, and the weights of linear layers
// may be quantised (AdapterConfig::base_quantization). Each named weight is quantised separately, from its float32
// values, so that the result depends neither on the layout nor on the compute type.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "parallel/optimizer/parameter_shard.h"
#include "parallel/process_grid.h"
#include "parallel/tensor/sharded_linear.h"

namespace carillon {

// A rank's place on the tensor-parallel axis, and what follows from it for one model.
struct TensorShards {
  TensorShards(const ModelConfig& config, int tp, int tp_rank);

  int tp;
  int tp_rank;
  int64_t heads;        // NHl
  int64_t kv_heads;     // NKVl
  int kv_replicas;      // tp ranks that hold the same key/value head; 1 if there are enough heads
  Range head_range;     // query heads of this rank
  Range kv_head_range;  // key/value heads of this rank
  Range mlp;            // range of intermediate_size
  Range vocabulary;     // range of vocab_size
};

enum class Initial {
  kNormal,
  kOnes,
  kZeros,
  kFanIn,  // uniform within ± 1/√in: PyTorch's Kaiming-uniform with a = √5, PEFT's initialisation of lora_A
};

// One named parameter: what the optimizer sees, and its initialisation.
struct Parameter : ParameterShard {
  QuantizedMatrix quantized;  // replaces `weight`, which is then absent
  Initial initial = Initial::kNormal;
  bool adapter = false;   // belongs to an adapter, not to the model
  bool rotation = false;  // belongs to a learned rotation (model/clex.h)
  bool frozen = false;    // no gradient, no optimizer state, not in checkpoints: the model's own, if there are adapters
  explicit operator bool() const { return !name.empty(); }  // false: this architecture does not have it
};

struct LayerParameters {
  Linear qkv;      // [(NHl + 2·NKVl)·HD, C]   q, k and v below, concatenated
  Linear output;   // [C, NHl·HD]              o_weight; the caller adds o_bias
  Linear gate_up;  // [2·Fl, C]
  Linear down;     // [C, Fl]

  Parameter input_norm;                    // [C] before attention; absent if norms are only after
  Parameter q_weight, k_weight, v_weight;  // [NHl·HD, C], [NKVl·HD, C] twice
  Parameter q_bias, k_bias, v_bias;
  Parameter q_norm, k_norm;          // [HD], or of the whole projection [NHl·HD], [NKVl·HD]
  Parameter sinks;                   // [NHl]
  Parameter o_weight, o_bias;        // [C, NHl·HD], [C]
  Parameter attention_output_norm;   // [C] after attention; absent if norms are only before
  Parameter mlp_norm;                // [C] before the MLP
  Parameter gate_weight, up_weight;  // [Fl, C]
  Parameter gate_bias, up_bias;
  Parameter down_weight, down_bias;  // [C, Fl], [C]
  Parameter mlp_output_norm;         // [C] after the MLP
  std::vector<Parameter> adapters;   // lora_A [r, in] and lora_B [out, r] of each target

  template <class Function>
  void for_each(Function&& visit) {
    for (Parameter* parameter : {&input_norm,
                                 &q_weight,
                                 &q_bias,
                                 &k_weight,
                                 &k_bias,
                                 &v_weight,
                                 &v_bias,
                                 &q_norm,
                                 &k_norm,
                                 &sinks,
                                 &o_weight,
                                 &o_bias,
                                 &attention_output_norm,
                                 &mlp_norm,
                                 &gate_weight,
                                 &gate_bias,
                                 &up_weight,
                                 &up_bias,
                                 &down_weight,
                                 &down_bias,
                                 &mlp_output_norm})
      if (*parameter) visit(*parameter);
    for (Parameter& parameter : adapters) visit(parameter);
  }
};

struct ParameterOptions {
  DType compute = DType::kFloat32;
  bool gradients = true;  // false: evaluation only
  // All layers share the gradient memory of two layers, double-buffered. The caller must have taken layer i's gradients
  // away before the backward pass of layer i - 2 begins (ZeRO-2).
  bool shared_layer_gradients = false;
};

// A subset of the parameters: all, the trained ones, the model's own, those of a learned rotation.
enum class Which { kAll, kTrained, kBase, kRotation };

class Parameters {
 public:
  // Allocates weights and gradients from `arena`; touches no memory.
  Parameters(const ModelConfig& config, const TensorShards& shards, const ParameterOptions& options, Arena& arena);

  Parameter embedding;  // [Vl, C]
  std::vector<LayerParameters> layers;
  Parameter norm;              // [C]
  Parameter ode_up, ode_down;  // [R, hidden], [hidden, R] of a learned rotation (clex); otherwise absent
  Parameter lm_head;           // [Vl, C]; absent when tied to the embedding

  const Parameter& head() const { return lm_head ? lm_head : embedding; }

  // Every parameter once, in the order of a state dict.
  template <class Function>
  void for_each(Function&& visit) {
    visit(embedding);
    for (LayerParameters& layer : layers) layer.for_each(visit);
    visit(norm);
    for (Parameter* learned : {&ode_up, &ode_down})
      if (*learned) visit(*learned);
    if (lm_head) visit(lm_head);
  }

  // Initialises the weights: normal with standard deviation initializer_range, norms 1, biases 0; of adapters, A as
  // kFanIn and B 0, so that an adapter initially changes nothing. Values are a pure function of seed, name and global
  // index, so they are the same on every layout. `tp` is used, collectively, if weights are quantised.
  void initialize(Backend& backend, Communicator& tp, double initializer_range, uint64_t seed,
                  Which which = Which::kAll);
  // Number of elements of a weight drawn on the host at a time: a whole embedding would set the run's peak memory.
  static constexpr int64_t kDrawnAtOnce = 1 << 17;

  // Quantises `values`, float32 [rows, columns] of this rank's rectangle in host memory, into the weight of a quantised
  // parameter. Collective over tp: blocks may extend beyond a rank's part.
  static void quantize(Backend& backend, Communicator& tp, const Parameter& parameter, std::span<const float> values);

  // Returns "model/NAME" with this rank's rectangles and weights, for loading and saving; leaves out quantised ones.
  // Only the first of several replicas is owned, and nothing is owned unless `owner` (one rank of dp_cp writes).
  // `backend` is the device whose memory holds the weights.
  std::vector<NamedShard> weight_shards(Backend& backend, bool owner, Which which = Which::kAll);
  std::vector<ParameterShard> trained();

 private:
  TensorShards shards_;
};

}  // namespace carillon
