// What the forward pass keeps for the backward pass, and the memory that layers share. The policy `train.recompute`
// decides which tensors are kept. The others are views of shared memory that the backward pass fills again, by the same
// ops in the same order, so gradients have the same bits under every policy.
#pragma once

#include <vector>

#include "model/config.h"
#include "model/parameters.h"
#include "runtime/buffer.h"

namespace carillon {

enum class Recompute {
  kNone,       // keep everything: fastest, most memory
  kSelective,  // keep the layer's input, attention output and log-sum-exp, so the ring never runs twice
  kFull,       // keep only the layer's input
};

// What is held in host memory and copied to the device only while it is needed.
enum class Offload {
  kNone,
  kCheckpoints,  // what the recompute policy keeps of each layer: activation_offload.h
  kOptimizer,    // master weights and moments: parallel/optimizer/state_stream.h
  kAll,          // both
};
inline bool offloads_checkpoints(Offload offload) {
  return offload == Offload::kCheckpoints || offload == Offload::kAll;
}
inline bool offloads_optimizer(Offload offload) { return offload == Offload::kOptimizer || offload == Offload::kAll; }

struct LayerActivations {
  Tensor input;           // [N/tp, C]  residual on entry                          kept: always
  Tensor input_rstd;      // [N/tp] (A)                                            kept: none
  Tensor qkv_raw;         // [N, (NHl+2NKVl)·HD] before q/k norms, and values; qkv without them  kept: none
  Tensor q_rstd, k_rstd;  // [N, NHl], [N, NKVl] (A), with q/k norms; [N] over projections  kept: none
  Tensor qkv;             // the input of attention; with q/k norms [N, (NHl+NKVl)·HD], without values  kept: none
  Tensor attention;       // [N, NHl·HD]                                           kept: none, selective
  Tensor lse;             // [B, NHl, Tl] (A) over the whole ring                  kept: none, selective
  // With norms after: the outputs of attention and MLP before the norm.
  Tensor attention_output;       // [N/tp, C]                                       kept: none
  Tensor attention_output_rstd;  // [N/tp] (A)                                      kept: none
  Tensor mlp_output;             // [N/tp, C]                                       kept: none, selective
  Tensor mlp_output_rstd;        // [N/tp] (A)                                      kept: none, selective
  Tensor middle;                 // [N/tp, C]  residual between attention and MLP         kept: none
  Tensor middle_rstd;            // [N/tp] (A)                                            kept: none
  Tensor gate_up;                // [N, 2·Fl], or [tile, 2·Fl] with an MLP in tiles       kept: none
};

struct Activations {
  std::vector<LayerActivations> layers;
  Tensor output;       // [N/tp, C]  residual after the last layer
  Tensor output_rstd;  // [N/tp] (A)
};

// Memory that every layer uses in turn; normed and branch_gradient are also the loss's input and output.
struct WorkingMemory {
  Tensor normed;    // [N/tp, C]   output of a norm
  Tensor gathered;  // [N, C]      the same, gathered over tp (tp > 1)
  Tensor partial;   // [N, C]      a row-parallel product before it is scattered (tp > 1)
  Tensor swiglu;    // [N, Fl], or [tile, Fl]
  // training only
  Tensor residual_gradient;   // [N/tp, C]
  Tensor branch_gradient;     // [N/tp, C]   gradient of a norm's output
  Tensor gathered_gradient;   // [N, C]      (tp > 1)
  Tensor swiglu_gradient;     // [N, Fl], or [tile, Fl]
  Tensor attention_gradient;  // [N, NHl·HD]
  Tensor qkv_gradient;        // [N, (NHl+2NKVl)·HD]
  Tensor output_gradient;     // [N/tp, C]  with norms after or a multiplier: gradient of the output of attention or MLP
  // with q/k norms over projections that are split over tp: sums over their rows, of queries and of keys
  Tensor row_sums;      // [2, N] (A)
  LowRankWork adapter;  // with adapters
};

struct BatchOnDevice {
  Tensor tokens, position;    // [N] int64
  std::vector<Tensor> first;  // [B, Tl] int64, of each distinct window
  Tensor query_factor;        // [N] (A), for queries with a temperature
  Tensor row;                 // [N] int64, with dropout: the sequence's number · 2^32 + index in the sequence
};

struct ActivationShape {
  int64_t batch, local, rows, shard_rows;  // B, Tl, N, N/tp
  DType compute;
  bool training;
  Recompute recompute;
  bool offloaded;    // layers share two sets of kept tensors: activation_offload.h
  int64_t mlp_rows;  // rows the MLP processes at a time: N, or those of a tile

  bool drops(const ModelConfig& config) const { return training && config.adapter.dropout > 0; }

  bool tiled() const { return mlp_rows < rows; }
};

// Both are allocated in two parts: what must be kept while the loss is computed, and what is refilled afterwards, whose
// memory the loss may use.
Activations allocate_kept_activations(const ModelConfig& config, const TensorShards& shards,
                                      const ActivationShape& shape, Arena& arena);
void allocate_shared_activations(const ModelConfig& config, const TensorShards& shards, const ActivationShape& shape,
                                 Arena& arena, Activations& activations);
WorkingMemory allocate_persistent_memory(const ModelConfig& config, const ActivationShape& shape, Arena& arena);
void allocate_transient_memory(const ModelConfig& config, const TensorShards& shards, const ActivationShape& shape,
                               Arena& arena, WorkingMemory& work);
BatchOnDevice allocate_batch(const ModelConfig& config, const ActivationShape& shape, Arena& arena);

}  // namespace carillon
