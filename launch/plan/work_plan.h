// The work of one micro-step on one rank, counted from the ops of model/block.cpp,
// parallel/tensor/vocabulary_parallel.cpp and parallel/optimizer/sharded_optimizer.cpp: products by shape, bytes that
// elementwise ops move, bytes on the wire. No rates here.
#pragma once

#include <cstdint>
#include <vector>

#include "launch/plan/planned_run.h"
#include "launch/plan/ring_plan.h"

namespace carillon {

// [rows, inner] · [inner, columns], `count` times. FLOP: 2 · rows · inner · columns each.
struct PlannedProduct {
  int64_t rows, inner, columns;
  double count;
  double flops() const { return 2.0 * rows * inner * columns * count; }
};

struct WorkPlan {
  // Of a micro-step.
  // Of the layers, in the order qkv, o, gate and up, down: y = x·Wᵀ; of each dx and dW; of the first three y again.
  std::vector<PlannedProduct> forward, backward, redone;
  std::vector<PlannedProduct> before_ring;    // of backward and redone, before a layer's first hop
  std::vector<PlannedProduct> loss;           // forward and backward of the head
  double moved_bytes = 0;                     // by norms, rotation, SwiGLU, sums, copies, cross-entropy
  double ops = 0;                             // calls of the backend
  RingPlan ring;                              // of a layer
  int64_t attention_batch_heads = 0;          // sequences · query heads: how often `ring.pairs` count
  int forward_rings = 1;                      // 2 when the forward pass is redone whole
  double offloaded_layers = 0;                // that travel to the host and back: all but two
  double offloaded_layer_bytes = 0;           // one way, of one of them
  double tensor_bytes = 0, tensor_calls = 0;  // over tp: what a rank sends, and in how many collectives
  int64_t tensor_chunks = 1;                  // of each exchange of the layers, and of their products
  double tensor_exchange_bytes = 0;           // of one gather or scatter of the residual, all its chunks
  double tensor_layer_exchanges = 0;          // of these, of a layer

  // Of a step, whatever its micro-steps.
  int64_t local_parameters = 0;  // of this tp rank
  int64_t owned_parameters = 0;  // of its optimizer share
  int64_t parameter_tensors = 0;
  // Over dp_cp, sent: reduction; per step (ZeRO 0, 1) or per micro-step (ZeRO 2). In buckets, which begin one after
  // another: the last norm and an untied head, then layer by layer, then the embedding.
  struct Bucket {
    double bytes = 0;
    int64_t tensors = 0;
  };
  Bucket head_gradients, layer_gradients, embedding_gradients;
  double gradient_bytes = 0;         // of all buckets
  double weight_bytes = 0;           // over dp_cp, sent: the new weights, per step
  double offloaded_state_bytes = 0;  // masters and moments, one way, per step
  double optimizer_moved_bytes = 0;  // zeroing, norm, AdamW, sums of the reduction
};

// Exchanges over tensor ranks in so many chunks (parallel/tensor/row_shards.h).
WorkPlan plan_work(const ModelConfig& model, const PlannedRun& run, int64_t tensor_chunks = 1);

// Parameters that stand in products: all but the embedding (unless it is the head too), norms and biases.
int64_t product_parameters(const ModelConfig& model);

// 6·N_mm + 12·NH·HD·L·pairs/S, the pairs S²/2 without a window: what a token costs whoever computes it.
double useful_flops_per_token(const ModelConfig& model, int64_t length);

}  // namespace carillon
