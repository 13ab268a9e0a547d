// What happens to gradients between the backward pass and the optimizer, for any dp × cp × tp and ZeRO stage
// (Rajbhandari et al., 1910.02054). The model hands over a list of ParameterShard; nothing here knows the network.
//
//   1. within tp: a parameter whose gradient is partial over tp (norms and row-parallel biases under sequence
//      parallelism; replicated key/value heads) is summed over its replicas.
//   2. over dp × cp: summed. Stage 0: all-reduce, every rank has all. Stage 1: reduce-scatter by rows, once a step.
//      Stage 2: reduce-scatter by rows in each micro-step, so a full gradient lives only briefly.
//      Both as soon as a group's (a layer's) gradients are complete, while the backward pass goes on to the next.
//   3. the global norm, each parameter counted once; clipping; AdamW on the rows owned; all-gather of the new weights.
// Optimizer shards are rows (leading dim) of this tp rank's rectangle, share_of(rows, dp_cp, rank): rectangles of the
// global tensor, so any checkpoint can be read on any layout.
#pragma once

#include <string>
#include <vector>

#include "parallel/process_grid.h"
#include "parallel/shard.h"
#include "runtime/backend.h"

namespace carillon {

// One parameter of this tp rank, as the optimizer sees it.
struct ParameterShard {
  std::string name;         // Hugging Face's name
  Rectangle rectangle;      // this tp rank's part of the global tensor
  Tensor weight;            // T, [rows, columns] or [rows]
  Tensor gradient;          // A, same shape; accumulated over micro-steps
  int tp_replicas = 1;      // how many tp ranks hold this same rectangle: 1, kv_replicas, or tp
  bool tp_partial = false;  // its gradient on each replica is a part, to be summed over the replicas
  // The first backward pass after zero_gradients overwrites the gradient (and every one does in ZeRO 2, which takes it
  // away at once): nobody need clear it.
  bool overwritten = false;
  bool decays = true;  // matrices decay, norms and biases never
  // Parameters whose gradients are complete together: a layer's index; one more than the last layer's before any of
  // them; -1: at the end.
  int64_t group = -1;
};

}  // namespace carillon
