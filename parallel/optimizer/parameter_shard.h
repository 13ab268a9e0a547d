// What happens to gradients between the backward pass and the optimizer, for any dp × cp × tp and ZeRO stage
// (Rajbhandari et al., 1910.02054). The model passes a list of ParameterShard; nothing here depends on the network.
//
//   1. Over dp × cp: summed. Stage 0: all-reduce, every rank gets all of it. Stage 1: reduce-scatter by rows, once a
//      step. Stage 2: reduce-scatter by rows in each micro-step, so a full gradient exists only briefly.
//   2. Within tp: a gradient that is partial over tp (norms and row-parallel biases under sequence parallelism;
//      replicated key/value heads) is summed over its replicas, on the owned rows.
//      Both start as soon as the gradients of a group (a layer) are complete, while the backward pass goes on.
//   3. The global norm, each parameter counted once; clipping; AdamW on the rows owned; all-gather of the new weights.
// Optimizer shards are rows (leading dim) of this tp rank's rectangle, share_of(rows, dp_cp, rank). They are rectangles
// of the global tensor, so a checkpoint can be read with any layout.
#pragma once

#include <string>
#include <vector>

#include "parallel/process_grid.h"
#include "parallel/shard.h"
#include "runtime/backend.h"

namespace carillon {

// One parameter of this tp rank, as the optimizer sees it.
struct ParameterShard {
  std::string name;         // Hugging Face name
  Rectangle rectangle;      // this tp rank's part of the global tensor
  Tensor weight;            // T, [rows, columns] or [rows]
  Tensor gradient;          // A, same shape; accumulated over micro-steps
  int tp_replicas = 1;      // number of tp ranks that hold this same rectangle: 1, kv_replicas, or tp
  bool tp_partial = false;  // each replica's gradient is only a term of the sum over the replicas
  // The first backward pass after zero_gradients overwrites the gradient, so it need not be cleared. (At ZeRO 2 every
  // backward pass does, because the gradient is reduced away at once.)
  bool overwritten = false;
  bool decays = true;  // matrices decay; norms and biases never do
  // Parameters whose gradients complete together share a group: the layer's index; the number of layers for those that
  // complete before any layer; -1 for those that complete at the end.
  int64_t group = -1;
};

}  // namespace carillon
