#include "parallel/context/ring_attention.h"

#include <algorithm>

#include "parallel/injected_fault.h"
#include "runtime/joined_heads.h"

namespace carillon {
namespace {

// Elements of one half's keys and values.
int64_t half_elements(const SequenceLayout& layout, const RingAttention::Shape& shape) {
  return 2 * shape.batch * layout.half() * shape.kv_heads * shape.head_dim;
}

// Halves on the wire for plain causal attention, keys and gradients; derived in README.md, "The ring" and "Two levels".
struct CausalHalves {
  RingSchedule::Wire keys, gradients;
};
CausalHalves causal_halves(const SequenceLayout& layout, int ring_inner) {
  const int64_t ranks = layout.cp(), inner = ring_inner == 0 ? ranks : ring_inner, nodes = ranks / inner;
  // In a later stage an inner ring reads a whole block or nothing. Returning it to the collector takes one hop more.
  const int64_t back = inner > 1 ? inner : 0;
  if (layout.kind() == LayoutKind::kZigzag) {
    const int64_t outer = 3 * ranks * (nodes - 1) / 2, first = 3 * ranks * (inner - 1) / 2;
    return {{first + outer * (inner - 1), outer}, {first + outer * back, outer}};
  }
  // Contiguous: no other rank reads the last rank's keys, and only the ranks above s read those of rank s. Travelling
  // downward and around, keys reach these readers last. The same holds for neighbours in stage 0 and for nodes.
  const int64_t outer = inner * nodes * (nodes - 1);  // pairs of a half and a later node that reads it
  return {{2 * nodes * (inner - 1) * (inner - 1) + outer * (inner - 1), 2 * inner * (nodes - 1) * (nodes - 1)},
          {nodes * inner * (inner - 1) + outer * back, outer}};
}

RingSchedule::Wire scaled(RingSchedule::Wire halves, int64_t bytes) {
  return {halves.inner * bytes, halves.outer * bytes};
}

// The piece of a message that goes in one of `pieces` steps.
Tensor piece_of(Tensor message, int piece, int pieces) {
  if (!message) return {};
  const int64_t elements = message.count(), begin = elements * piece / pieces, end = elements * (piece + 1) / pieces;
  return begin == end ? Tensor() : message.reshape({elements}).rows(begin, end);
}

}  // namespace

RingAttention::RingAttention(Backend& backend, Communicator& cp, const SequenceLayout& layout, const Shape& shape,
                             Arena& arena)
    : backend_(backend),
      cp_(cp),
      layout_(layout),
      shape_(shape),
      rank_(cp.rank()),
      ranks_(cp.size()),
      masks_(backend, cp, layout, shape.batch, shape.masks, shape.ring_inner, arena) {
  CHECK(layout.cp() == cp.size(), "layout and communicator differ in size", layout.cp(), cp.size());
  CHECK(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, "query heads are a multiple of key/value heads",
        shape.heads, shape.kv_heads);
}

void RingAttention::allocate_work(Arena& arena) {
  const auto [batch, heads, kv_heads, width, compute, backward, ring_inner, masks] = shape_;
  const int64_t local = layout_.local();
  const DType wide = accumulate_type(compute);
  const int64_t block = half_elements(layout_, shape_);

  const auto keys = [&, type = compute] { return arena.allocate("attention.ring_keys", type, {2, block}); };
  const bool two_level = plan().stages() > 1;
  if (ranks_ > 1) base_[0] = keys();
  if (two_level) base_[1] = keys();
  if (plan().inner() > 1) passing_[1] = keys();
  // With a flat ring the own block is not needed after its first hop. A base block is needed until it was sent on to
  // the next node.
  if (plan().inner() > 2) passing_[0] = two_level ? keys() : base_[0];

  // The state of a forward pass and the accumulators of a backward pass are never alive together.
  const size_t begin = arena.mark();
  state_.accumulator = arena.allocate("attention.state", wide, {batch, local, heads, width});
  state_.maximum = arena.allocate("attention.state", wide, {batch, heads, local});
  state_.sum = arena.allocate("attention.state", wide, {batch, heads, local});
  if (!backward) return;
  const size_t forward_end = arena.used();
  arena.rewind(begin);
  gradients_ = arena.allocate("attention.gradient", wide, {batch * local, (heads + 2 * kv_heads) * width});
  delta_ = arena.allocate("attention.gradient", wide, {batch, heads, local});
  const auto part = [&, batch = batch, width = width](int64_t first, int64_t count) {
    return gradients_.slice(1, first * width, (first + count) * width).split_dim(1, count).split_dim(0, batch);
  };
  dq_ = part(0, heads);
  dk_ = part(heads, kv_heads);
  dv_ = part(heads + kv_heads, kv_heads);
  const auto gradients = [&](std::initializer_list<Tensor*> blocks) {
    for (Tensor* travelling : blocks) *travelling = arena.allocate("attention.ring_gradients", wide, {2, block});
  };
  if (ranks_ > 1) gradients({&part_, &outgoing_, &incoming_, &collected_});
  if (two_level) gradients({&leaving_, &arriving_, &home_});
  arena.advance(forward_end);
}

Tensor RingAttention::half_of(Tensor block, int half, int which) const {
  const int64_t elements = block.size(1) / 2;
  return block.reshape({4, elements})
      .rows(2 * half + which, 2 * half + which + 1)
      .reshape({shape_.batch, layout_.half(), shape_.kv_heads, shape_.head_dim});
}

Tensor RingAttention::part_of(Tensor block, Halves halves) {
  if (!halves.any()) return {};
  return block.rows(halves.early ? 0 : 1, halves.late ? 2 : 1);
}

void RingAttention::pack_own(Tensor k, Tensor v) {
  const int64_t half = layout_.half();
  const Halves around = plan().carried(rank_, 0), down = plan().outer_carried(rank_, 0);
  for (int which = 0; which < 2; ++which)
    if (around.has(which) || down.has(which)) {
      backend_.copy(half_of(base_[0], which, 0), k.slice(1, which * half, (which + 1) * half));
      backend_.copy(half_of(base_[0], which, 1), v.slice(1, which * half, (which + 1) * half));
    }
}

Tensor& RingAttention::block(int step) {
  const int inner_step = step % plan().inner();
  return inner_step == 0 ? base_[step / plan().inner() % 2] : passing_[inner_step % 2];
}

void RingAttention::exchange(Transfers& transfers, Tensor send, int to, Tensor receive, int from,
                             Communicator::Kind kind) {
  transfers.push_back(cp_.start_exchange(send, send ? to : -1, receive, receive ? from : -1, kind));
}

void RingAttention::poll() const {
  for (const Transfers* transfers : {&transfers_, &outer_keys_, &outer_gradients_})
    for (const auto& transfer : *transfers) transfer->poll();
}

// Waits for what was started in this step. At the end of a stage it also waits for the next base block. One step later,
// when the last gradients of the stage are collected, it waits for the sums from the node before.
void RingAttention::wait_after(int step) {
  const auto finish = [](Transfers& transfers) {
    for (const auto& transfer : transfers) transfer->wait();
    transfers.clear();
  };
  finish(transfers_);
  if ((step + 1) % plan().inner() == 0) finish(outer_keys_);
  if (step % plan().inner() == 0 || step > ranks_) finish(outer_gradients_);
}

// Sends the present block down and receives the next one; does nothing if no rank needs the hop. Also sends one piece
// of the base block to the next node in every step of the stage: a device carries out the exchanges of a group one
// after another, so a whole block would delay the inner hops behind it.
void RingAttention::start_keys(int step) {
  const int inner = plan().inner(), stage = step / inner, inner_step = step % inner;
  if (step >= ranks_) return;
  if (inner_step + 1 < inner && plan().any_carried(step))
    exchange(transfers_, part_of(block(step), plan().carried(rank_, step)), plan().below(rank_),
             part_of(block(step + 1), plan().carried(plan().above(rank_), step)), plan().above(rank_));
  if (stage + 1 < plan().stages() && plan().any_outer_carried(stage)) {
    const Tensor send = part_of(base_[stage % 2], plan().outer_carried(rank_, stage));
    const int above = plan().outer_above(rank_);
    const Tensor receive = part_of(base_[(stage + 1) % 2], plan().outer_carried(above, stage));
    exchange(outer_keys_, piece_of(send, inner_step, inner), plan().outer_below(rank_),
             piece_of(receive, inner_step, inner), above);
  }
}

void RingAttention::forward(Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v, const Layer& layer) {
  mask_ = layer.mask;
  CHECK(masks_.is_set(mask_), "set_mask comes before forward");
  const double scale = layer.scale;
  // The block of keys that is folded in last gives the result: 2 · step + half, -1 for this rank's own.
  int last = -1;
  for (int step = 0; step < ranks_; ++step)
    for (int half = 0; half < 2; ++half)
      if (plan().read(rank_, step).has(half)) last = 2 * step + half;
  const auto ends_of = [&](int block) {
    AttentionEnds ends;
    if (block < 0) ends.first = true, ends.sinks = layer.sinks;
    if (block == last) ends.out = out, ends.lse = lse;
    return ends;
  };
  if (ranks_ > 1) pack_own(k, v);
  for (int step = 0; step < ranks_; ++step) {
    start_keys(step);
    if (step == 0) backend_.attention_forward(state_, q, k, v, masks_.own(mask_), scale, ends_of(-1));
    const Halves read = plan().read(rank_, step);
    for (int half = 0; half < 2; ++half)
      if (read.has(half)) {
        poll();
        backend_.attention_forward(state_, q, half_of(block(step), half, 0), half_of(block(step), half, 1),
                                   masks_.of_half(mask_, plan().source(rank_, step), half), scale,
                                   ends_of(2 * step + half));
      }
    // The next hop overwrites the sent block, which the work above reads. It may, because it starts after all work
    // put on the backend's queue before it (communicator.h).
    wait_after(step);
  }
}

// Sends what the previous step left in outgoing_: on to the next rank below or, if it holds the whole sum of the stage,
// straight to the collector.
void RingAttention::start_gradients(int step) {
  const int before = step - 1, inner = plan().inner();
  if (before < 1 || before >= ranks_) return;
  if (plan().any_gradient_carried(before)) {
    const int above = plan().above(rank_);
    exchange(transfers_, part_of(outgoing_, plan().gradient_carried(rank_, before)), plan().below(rank_),
             part_of(incoming_, plan().gradient_carried(above, before)), above);
  }
  if (before % inner == 0) {  // only the collector has read these
    const Halves stay = plan().gradient_finished(rank_, before);
    for (int half = 0; half < 2; ++half)
      if (stay.has(half)) backend_.copy(collected_.rows(half, half + 1), outgoing_.rows(half, half + 1));
  } else if (plan().any_gradient_finished(before)) {
    const int last_reader = plan().reader(rank_, before % inner);  // of this rank's base block
    exchange(transfers_, part_of(outgoing_, plan().gradient_finished(rank_, before)), plan().collector(rank_, before),
             part_of(collected_, plan().gradient_finished(last_reader, before)), last_reader,
             Communicator::Kind::kMessage);
  }
}

// Sends what the stage before the last collection left in leaving_: down to the next node or, if complete, straight
// home. It goes in pieces, as base blocks do, except in the last stage: with no compute left to hide behind, it goes in
// one message.
void RingAttention::start_outer_gradients(int step) {
  const int inner = plan().inner(), stage = (step - 1) / inner - 1;
  if (step < 1 || stage < 1 || stage >= plan().stages()) return;
  const int pieces = stage + 1 < plan().stages() ? inner : 1, piece = (step - 1) % inner;
  const auto send = [&](Tensor receive, Halves own, int to, Halves theirs, int from, Communicator::Kind kind) {
    exchange(outer_gradients_, piece_of(part_of(leaving_, own), piece, pieces), to,
             piece_of(part_of(receive, theirs), piece, pieces), from, kind);
  };
  if (plan().any_outer_gradient_carried(stage)) {
    const int above = plan().outer_above(rank_);
    send(arriving_, plan().outer_gradient_carried(rank_, stage), plan().outer_below(rank_),
         plan().outer_gradient_carried(above, stage), above, Communicator::Kind::kShift);
  }
  if (plan().any_outer_gradient_finished(stage)) {
    const int base = plan().base(stage), last_reader = plan().reader(rank_, base);
    send(home_, plan().outer_gradient_finished(rank_, stage), plan().source(rank_, base),
         plan().outer_gradient_finished(last_reader, stage), last_reader, Communicator::Kind::kMessage);
  }
}

void RingAttention::backward_remote(int step, Tensor q, Tensor dout, Tensor out, Tensor lse, double scale) {
  const Halves read = plan().read(rank_, step);
  for (int half = 0; half < 2; ++half)
    if (read.has(half)) {
      AttentionGradientEnds ends;
      ends.first_keys = true;
      backend_.attention_backward(dq_, half_of(part_, half, 0), half_of(part_, half, 1), q,
                                  half_of(block(step), half, 0), half_of(block(step), half, 1), dout, out, lse, delta_,
                                  masks_.of_half(mask_, plan().source(rank_, step), half), scale, ends);
    }
}

// Adds the contribution of the ranks before to this rank's own. The sum is sent while the next block is worked on.
void RingAttention::add_parts(int step) {
  const Halves mine = plan().read(rank_, step);
  const Halves theirs = step > 1 ? plan().gradient_carried(plan().above(rank_), step - 1) : Halves{};
  for (int half = 0; half < 2; ++half) {
    if (!theirs.has(half)) continue;
    const Tensor sum = part_.rows(half, half + 1);
    const Tensor received = incoming_.rows(half, half + 1);
    mine.has(half) ? backend_.add(sum, received) : backend_.copy(sum, received);
  }
  std::swap(part_, outgoing_);
}

// Everything of a stage has arrived. In stage 0 it is the gradient of this rank's own keys; otherwise adds the sum of
// the nodes before.
void RingAttention::collect(int stage) {
  const Halves mine = plan().collected(rank_, stage);
  if (stage == 0) {
    add_home(collected_, {mine.early && !injected(InjectedFault::kRingDropsLastGradientHop), mine.late});
    return;
  }
  const Halves theirs = stage > 1 ? plan().outer_gradient_carried(plan().outer_above(rank_), stage - 1) : Halves{};
  for (int half = 0; half < 2; ++half) {
    if (!theirs.has(half)) continue;
    const Tensor sum = collected_.rows(half, half + 1);
    const Tensor received = arriving_.rows(half, half + 1);
    mine.has(half) ? backend_.add(sum, received) : backend_.copy(sum, received);
  }
  std::swap(collected_, leaving_);
}

void RingAttention::add_home(Tensor block, Halves halves) {
  for (int half = 0; half < 2; ++half) {
    if (!halves.has(half)) continue;
    const int64_t begin = half * layout_.half();
    backend_.add(dk_.slice(1, begin, begin + layout_.half()), half_of(block, half, 0));
    backend_.add(dv_.slice(1, begin, begin + layout_.half()), half_of(block, half, 1));
  }
}

void RingAttention::backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out,
                             Tensor lse, const Layer& layer) {
  CHECK(shape_.backward, "this ring was built for forward passes only");
  mask_ = layer.mask;
  CHECK(masks_.is_set(mask_), "set_mask comes before backward");
  const double scale = layer.scale;
  const int stages = plan().stages();
  AttentionGradientEnds own;
  own.first = own.first_keys = true;
  own.delta_wanted = ranks_ > 1 || layer.sinks_gradient;
  if (ranks_ == 1) {
    own.result_dq = dq, own.result_dk = dk, own.result_dv = dv;
    own.position = layer.position, own.cosine = layer.cosine, own.sine = layer.sine;
  }
  if (ranks_ > 1) pack_own(k, v);

  // Step W has no work left: it collects the last gradients. Those from other nodes come home in the step after it.
  const int last_step = ranks_ == 1 ? 0 : stages == 1 ? ranks_ : ranks_ + 1;
  for (int step = 0; step <= last_step; ++step) {
    start_keys(step);
    start_gradients(step);
    start_outer_gradients(step);
    if (step == 0) {
      backend_.attention_backward(dq_, dk_, dv_, q, k, v, dout, out, lse, delta_, masks_.own(mask_), scale, own);
      if (layer.sinks_gradient) backend_.attention_sinks_backward(layer.sinks_gradient, layer.sinks, lse, delta_);
    }
    poll();
    if (step > 0 && step < ranks_) backward_remote(step, q, dout, out, lse, scale);
    wait_after(step);
    if (step > 0 && step <= ranks_ && step % plan().inner() == 0) collect(step / plan().inner() - 1);
    if (step > 0 && step < ranks_) add_parts(step);
  }

  Halves came;
  for (int stage = 1; stage < stages; ++stage) {
    const Halves finished = plan().outer_gradient_finished(plan().reader(rank_, plan().base(stage)), stage);
    came = {came.early || finished.early, came.late || finished.late};
  }
  if (stages > 1 && !injected(InjectedFault::kRingDropsOuterGradientHop)) add_home(home_, came);
  if (ranks_ == 1) return;
  if (const Tensor fused = joined_heads({dq, dk, dv})) {
    backend_.copy(fused, joined_heads({dq_, dk_, dv_}));
  } else {
    backend_.copy(dq, dq_);
    backend_.copy(dk, dk_);
    backend_.copy(dv, dv_);
  }
  if (!layer.position) return;
  const Tensor turned = joined_heads({dq, dk});
  CHECK(turned, "gradients that are turned lie side by side", describe(dq), describe(dk));
  backend_.rotate(turned, layer.position, layer.cosine, layer.sine, /*inverse=*/true);
}

RingSchedule::Wire RingAttention::forward_wire(const SequenceLayout& layout, const Shape& shape) {
  return scaled(causal_halves(layout, shape.ring_inner).keys,
                half_elements(layout, shape) * static_cast<int64_t>(size_of(shape.compute)));
}

RingSchedule::Wire RingAttention::backward_wire(const SequenceLayout& layout, const Shape& shape) {
  const RingSchedule::Wire keys = forward_wire(layout, shape);
  const RingSchedule::Wire gradients =
      scaled(causal_halves(layout, shape.ring_inner).gradients,
             half_elements(layout, shape) * static_cast<int64_t>(size_of(accumulate_type(shape.compute))));
  return {keys.inner + gradients.inner, keys.outer + gradients.outer};
}

}  // namespace carillon
