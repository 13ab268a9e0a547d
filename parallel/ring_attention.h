// Attention over a sequence split along cp (ring attention: Liu et al., 2310.01889; zigzag as in 2.x of parallel/README.md).
//
// Keys and values travel downward, from rank r to rank r-1 (mod W): at step j rank r works on the block of source
// s = (r + j) mod W, and at the same time sends it on and receives the next. The late half of a zigzag block is read only
// by ranks below its source, so it stops at rank 0: 25 % fewer bytes. A forward pass makes W-1 hops. In the backward pass
// dK and dV (type A) follow their keys one hop behind and come home after W; the late half's go from rank 0 straight home.
// The mask (runtime/backend.h) decides which pairs are computed, so packed documents, windows and padding need nothing
// more; on one rank (W = 1) this is a plain call of the backend.
#pragma once

#include "parallel/communicator.h"
#include "parallel/sequence_layout.h"
#include "runtime/backend.h"

namespace carillon {

class RingAttention {
 public:
  // Shapes of one call. All working memory (send and receive blocks, softmax state, dK/dV accumulators) is dealt from
  // `arena` here, once; forward and backward of all layers share it.
  struct Shape {
    int64_t batch;      // B
    int64_t heads;      // NHl: query heads on this rank
    int64_t kv_heads;   // NKVl
    int64_t head_dim;   // HD
    DType compute;      // T
    bool backward = true;  // false: forward only (evaluation), less memory
  };
  RingAttention(Backend& backend, Communicator& cp, const SequenceLayout& layout, const Shape& shape, Arena& arena);

  // first [B, Tl] int64: for each local row the sequence index of its first visible key (runtime/backend.h). Collective;
  // call once per micro-batch. The rows' own indices come from the layout.
  void set_mask(Tensor first);

  // out [B, Tl, NHl, HD] (T), lse [B, NHl, Tl] (A).  q, k, v local, rotated; dims 0..2 may be strided.
  void forward(Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v, double scale);
  // dq, dk, dv (T; overwritten; may be strided) from dout, out and lse of the forward pass.
  void backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse,
                double scale);

  // Bytes all ranks together put on the wire for one forward (backward) pass by the formulas of parallel/README.md;
  // the test compares them with what was counted.
  static int64_t forward_bytes(const SequenceLayout& layout, const Shape& shape);
  static int64_t backward_bytes(const SequenceLayout& layout, const Shape& shape);
};

}  // namespace carillon
