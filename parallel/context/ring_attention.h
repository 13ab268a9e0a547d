// Attention over a sequence split along cp (ring attention: Liu et al., 2310.01889; zigzag: parallel/README.md, "The
// ring").
//
// Keys and values travel downward, from rank r to rank r-1 (mod W): at step j rank r works on the block of source
// s = (r + j) mod W, and at the same time sends it on and receives the next one. The late half of a zigzag block is
// read only by ranks below its source, so it stops at rank 0, which saves 25 % of the bytes. A forward pass makes W-1
// hops. In the backward pass dK and dV (type A) follow their keys one hop behind: the first rank that reads the keys
// starts the sum, and the last one sends it straight home (for a late half, that is rank 0). The owner's own
// contribution never travels. The mask (runtime/backend.h) decides which pairs are computed, so packed documents,
// windows and padding need nothing more; a half travels no further than the last rank whose queries see it
// (ring_schedule.h). On one rank (W = 1) this is a plain call of the backend.
//
// Two levels (Shape::ring_inner; LoongTrain, 2406.18485, BurstEngine, 2509.19836; drawn in parallel/README.md): inside
// a node the ranks pass blocks around as above, in one stage for each node's blocks. Meanwhile every rank exchanges the
// block that begins the next stage with its counterpart on the next node. All network adapters of a node thus work at
// once, and each transfer has a whole stage of compute to hide behind. dK and dV of a stage are summed around the inner
// ring, collected by the rank that brought the block, and added to the sums received from the node before; these
// transfers also have a whole stage to complete.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "parallel/context/ring_masks.h"
#include "parallel/context/sequence_layout.h"
#include "parallel/transport/communicator.h"
#include "runtime/backend.h"
#include "runtime/buffer.h"

namespace carillon {

class RingAttention {
 public:
  // Shapes of one call. The constructor allocates the indices from `arena`. allocate_work() allocates the working
  // memory (send and receive blocks, softmax state, dK/dV accumulators) once: all layers share it, and no content is
  // kept from one pass to the next.
  struct Shape {
    int64_t batch;         // B
    int64_t heads;         // NHl: query heads on this rank
    int64_t kv_heads;      // NKVl
    int64_t head_dim;      // HD
    DType compute;         // T
    bool backward = true;  // false: forward only (evaluation), less memory
    int ring_inner = 0;    // ranks of an inner ring, a divisor of cp's; 0: one ring
    int masks = 1;         // number of different masks per micro-batch, e.g. with a window and without
  };
  RingAttention(Backend& backend, Communicator& cp, const SequenceLayout& layout, const Shape& shape, Arena& arena);
  void allocate_work(Arena& arena);

  // Sets mask `which`: first [B, Tl] int64 holds, for each local row, the sequence index of its first visible key
  // (runtime/backend.h). Collective; call it once per micro-batch and mask. The rows' own indices come from the layout.
  // `first` is kept as a view: its memory must not change until the last pass over this micro-batch. `host` is a copy
  // of `first` in host memory, if the caller has one, and saves a download. Without it a group of one rank (W = 1) does
  // not derive the mask's shape.
  void set_mask(int which, Tensor first, Tensor host = {}) { masks_.set(which, first, host); }

  // How a layer attends: its mask, its scale and its sinks [NHl] (T), absent if it has none.
  struct Layer {
    double scale = 1;
    int mask = 0;
    Tensor sinks = {};
    Tensor sinks_gradient = {};  // [NHl] (A) +=; absent: not wanted
    // The rotation that dq and dk are turned back by: position [N], cosine and sine as rotate() takes them; dq and dk
    // then lie side by side. Absent: not turned.
    Tensor position = {}, cosine = {}, sine = {};
  };
  // out [B, Tl, NHl, HD] (T), lse [B, NHl, Tl] (A).  q, k, v local, rotated; dims 0..2 may be strided.
  void forward(Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v, const Layer& layer);
  // Writes dq, dk, dv (T; overwritten; may be strided) from dout and the forward pass's out and lse.
  void backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse,
                const Layer& layer);

  // Bytes that all ranks together send in one forward (backward) pass of plain causal attention, by the formulas of
  // parallel/README.md; a test compares them with the bytes counted. Masks that hide whole halves send less.
  static int64_t forward_bytes(const SequenceLayout& layout, const Shape& shape) {
    return forward_wire(layout, shape).all();
  }
  static int64_t backward_bytes(const SequenceLayout& layout, const Shape& shape) {
    return backward_wire(layout, shape).all();
  }
  // The same split by link: inside inner rings and between them. With a single ring everything is inner.
  static RingSchedule::Wire forward_wire(const SequenceLayout& layout, const Shape& shape);
  static RingSchedule::Wire backward_wire(const SequenceLayout& layout, const Shape& shape);

  // What travels under a mask set earlier.
  const RingSchedule& schedule(int mask = 0) const { return masks_.schedule(mask); }

 private:
  using Transfers = std::vector<std::unique_ptr<Communicator::Transfer>>;
  // A block in flight, [2 halves, 2·B·half·NKVl·HD]: early keys, early values, late keys, late values.
  Tensor half_of(Tensor block, int half, int which) const;             // [B, half, NKVl, HD]; which: 0 keys, 1 values
  static Tensor part_of(Tensor block, Halves halves);                  // what one message carries; absent for none
  Tensor& block(int step);                                             // worked on at this step
  const RingSchedule& plan() const { return masks_.schedule(mask_); }  // of the current pass
  void pack_own(Tensor k, Tensor v);
  void start_keys(int step);
  void start_gradients(int step);
  void start_outer_gradients(int step);
  void exchange(Transfers& transfers, Tensor send, int to, Tensor receive, int from,
                Communicator::Kind kind = Communicator::Kind::kShift);
  void poll() const;
  void wait_after(int step);
  void backward_remote(int step, Tensor q, Tensor dout, Tensor out, Tensor lse, double scale);
  void add_parts(int step);
  void collect(int stage);
  void add_home(Tensor block, Halves halves);

  Backend& backend_;
  Communicator& cp_;
  SequenceLayout layout_;
  Shape shape_;
  int rank_;
  int ranks_;
  RingMasks masks_;
  int mask_ = 0;  // of the current pass

  // In stage o, base_[o % 2] is the block the stage begins with and the other one receives the next stage's. At inner
  // step j > 0, passing_[j % 2] is worked on and sent while the other one is received (T).
  std::array<Tensor, 2> base_, passing_;
  AttentionState state_;  // forward only; shares memory with what follows
  Tensor delta_;          // [B, NHl, Tl] (A)
  // Side by side in rows of gradients_, [B·Tl, (NHl + 2·NKVl)·HD] (A), so that they go to T in one piece.
  Tensor gradients_;
  Tensor dq_;         // [B, Tl, NHl, HD]
  Tensor dk_, dv_;    // [B, Tl, NKVl, HD]: this rank's queries' part for its own keys
  Tensor part_;       // dK, dV of the block being worked on; blocks as above, in A
  Tensor outgoing_;   // … of the block before, being sent
  Tensor incoming_;   // … of the ranks before, being received
  Tensor collected_;  // … of the stage's base block, from the last neighbours that read it; stage 0: own keys
  // Two levels only. leaving_: the sum over all nodes so far for the base block of the previous stage, being sent.
  // arriving_: the sum over the previous nodes for the present base block, being received. home_: the complete sum of
  // the other nodes for this rank's own keys.
  Tensor leaving_, arriving_, home_;

  // In flight until the end of the step (transfers_) and until the end of the stage (the other two).
  Transfers transfers_, outer_keys_, outer_gradients_;
};

}  // namespace carillon
