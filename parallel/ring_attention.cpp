#include "parallel/ring_attention.h"

#include <numeric>

#include "parallel/test_break.h"

namespace carillon {
namespace {

using Transfers = std::vector<std::unique_ptr<Communicator::Transfer>>;

void poll(const Transfers& transfers) {
  for (const auto& transfer : transfers) transfer->poll();
}

// Elements of one half's keys and values.
int64_t half_elements(const SequenceLayout& layout, const RingAttention::Shape& shape) {
  return 2 * shape.batch * layout.half() * shape.kv_heads * shape.head_dim;
}

// Halves on the wire for plain causal attention, keys and gradients; derived in README.md, "The ring".
struct CausalHalves {
  int64_t keys;
  int64_t gradients;
};
CausalHalves causal_halves(const SequenceLayout& layout) {
  const int64_t ranks = layout.cp();
  if (layout.kind() == LayoutKind::kZigzag) return {3 * ranks * (ranks - 1) / 2, 3 * ranks * (ranks - 1) / 2};
  // Contiguous: the last rank's keys are read by nobody else; those of rank s by the ranks above it only, which lie at
  // the end of the way down and round.
  return {2 * (ranks - 1) * (ranks - 1), ranks * (ranks - 1)};
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
      schedule_(cp.size()),
      staged_first_(arena.measuring() ? 0 : static_cast<size_t>(shape.batch * layout.local())),
      staged_reads_(static_cast<size_t>(2 * cp.size())),
      all_reads_(static_cast<size_t>(2 * cp.size()) * cp.size()) {
  CHECK(layout.cp() == cp.size(), "layout and communicator differ in size", layout.cp(), cp.size());
  CHECK(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, "query heads are a multiple of key/value heads",
        shape.heads, shape.kv_heads);
  query_index_ = arena.allocate("attention.index", DType::kInt64, {layout.local()});
  if (ranks_ > 1) sequence_index_ = arena.allocate("attention.index", DType::kInt64, {layout.padded()});
}

void RingAttention::deal_work(Arena& arena) {
  const auto [batch, heads, kv_heads, width, compute, backward] = shape_;
  const int64_t local = layout_.local();
  const DType wide = accumulate_type(compute);
  const int64_t block = half_elements(layout_, shape_);

  if (ranks_ > 1)
    for (Tensor& travelling : block_) travelling = arena.allocate("attention.ring_keys", compute, {2, block});

  // The state of a forward pass and the accumulators of a backward pass are never alive together.
  const size_t begin = arena.mark();
  state_.accumulator = arena.allocate("attention.state", wide, {batch, local, heads, width});
  state_.maximum = arena.allocate("attention.state", wide, {batch, heads, local});
  state_.sum = arena.allocate("attention.state", wide, {batch, heads, local});
  if (!backward) return;
  const size_t forward_end = arena.used();
  arena.rewind(begin);
  dq_ = arena.allocate("attention.gradient", wide, {batch, local, heads, width});
  delta_ = arena.allocate("attention.gradient", wide, {batch, heads, local});
  dk_ = arena.allocate("attention.gradient", wide, {batch, local, kv_heads, width});
  dv_ = arena.allocate("attention.gradient", wide, {batch, local, kv_heads, width});
  if (ranks_ > 1)
    for (Tensor* travelling : {&part_, &outgoing_, &incoming_, &home_})
      *travelling = arena.allocate("attention.ring_gradients", wide, {2, block});
  arena.advance(forward_end);
}

void RingAttention::set_mask(Tensor first) {
  const int64_t local = layout_.local();
  CHECK(first.rank() == 2 && first.size(0) == shape_.batch && first.size(1) == local, "first is [B, Tl]",
        describe(first));
  if (!indices_ready_) {
    std::vector<int64_t> own = layout_.indices(rank_);
    backend_.upload(query_index_, Tensor::of(own, {local}));
    if (ranks_ > 1) {
      std::vector<int64_t> all(static_cast<size_t>(layout_.padded()));
      std::iota(all.begin(), all.end(), 0);
      backend_.upload(sequence_index_, Tensor::of(all, {layout_.padded()}));
    }
    indices_ready_ = true;
  }
  first_ = first;
  const Tensor host = Tensor::of(staged_first_, {shape_.batch, local});
  if (broken(TestBreak::kDocumentMaskDropped)) {
    backend_.download(host, first_);
    for (int64_t& index : staged_first_)
      if (index < layout_.padded()) index = 0;
    backend_.upload(first_, host);
  }
  if (ranks_ == 1) return;

  // A half's keys are the run [begin, begin + half); a row sees some of them unless its interval ends before or starts
  // after.
  backend_.download(host, first_);
  const int64_t half = layout_.half();
  for (int source = 0; source < ranks_; ++source)
    for (int which = 0; which < 2; ++which) {
      const int64_t begin = layout_.index_of(source, which * half);
      int64_t& reads = staged_reads_[static_cast<size_t>(2 * source + which)];
      reads = 0;
      for (int64_t row = 0; row < shape_.batch * local && reads == 0; ++row) {
        const int64_t from = staged_first_[static_cast<size_t>(row)];
        const int64_t own = layout_.index_of(rank_, row % local);
        reads = from <= own && from < begin + half && own >= begin ? 1 : 0;
      }
    }
  cp_.all_gather(Tensor::of(all_reads_, {ranks_, 2 * ranks_}), Tensor::of(staged_reads_, {1, 2 * ranks_}));
  schedule_.set(all_reads_);
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

AttentionMask RingAttention::half_mask(int source, int half) const {
  int64_t begin = layout_.index_of(source, half * layout_.half());
  if (half == 1 && broken(TestBreak::kRingWrongChunkOrder)) begin = (ranks_ + source) * layout_.half();
  return {query_index_, first_, sequence_index_.rows(begin, begin + layout_.half())};
}

void RingAttention::pack_own(Tensor k, Tensor v) {
  const int64_t half = layout_.half();
  const Halves sent = schedule_.carried(rank_, 0);
  for (int which = 0; which < 2; ++which)
    if (sent.has(which)) {
      backend_.copy(half_of(block_[0], which, 0), k.slice(1, which * half, (which + 1) * half));
      backend_.copy(half_of(block_[0], which, 1), v.slice(1, which * half, (which + 1) * half));
    }
}

// Sends the present block down and receives the next one; nothing when no rank needs the hop.
std::unique_ptr<Communicator::Transfer> RingAttention::start_keys(int hop) {
  if (hop + 1 >= ranks_ || !schedule_.any_carried(hop)) return nullptr;
  const int below = schedule_.reader(rank_, 1);
  const int above = schedule_.source(rank_, 1);
  const Tensor send = part_of(block_[hop % 2], schedule_.carried(rank_, hop));
  const Tensor receive = part_of(block_[(hop + 1) % 2], schedule_.carried(above, hop));
  return cp_.start_exchange(send, send ? below : -1, receive, receive ? above : -1);
}

void RingAttention::forward(Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v, double scale) {
  CHECK(first_, "set_mask comes before forward");
  backend_.attention_begin(state_);
  if (ranks_ > 1) pack_own(k, v);
  for (int step = 0; step < ranks_; ++step) {
    Transfers transfers;
    if (auto keys = start_keys(step)) transfers.push_back(std::move(keys));
    if (step == 0) backend_.attention_forward(state_, q, k, v, own_mask(), scale);
    const Halves read = schedule_.read(rank_, step);
    for (int half = 0; half < 2; ++half)
      if (read.has(half)) {
        poll(transfers);
        const Tensor block = block_[step % 2];
        backend_.attention_forward(state_, q, half_of(block, half, 0), half_of(block, half, 1),
                                   half_mask(schedule_.source(rank_, step), half), scale);
      }
    // The sent block was read by the work above, the next hop overwrites it: that hop starts after all work put on the
    // backend's queue before (communicator.h).
    for (const auto& transfer : transfers) transfer->wait();
  }
  backend_.attention_finish(out, lse, state_);
}

// What the step before has left in outgoing_: on to the next rank down, or straight home where it is complete.
void RingAttention::start_gradients(int step, Transfers& transfers) {
  const int before = step - 1;
  if (before < 1) return;
  const int below = schedule_.reader(rank_, 1);
  const int above = schedule_.source(rank_, 1);
  if (schedule_.any_gradient_carried(before)) {
    const Tensor send = part_of(outgoing_, schedule_.gradient_carried(rank_, before));
    const Tensor receive = part_of(incoming_, schedule_.gradient_carried(above, before));
    transfers.push_back(cp_.start_exchange(send, send ? below : -1, receive, receive ? above : -1));
  }
  if (schedule_.any_gradient_finished(before)) {
    const int last_reader = schedule_.reader(rank_, before);
    const Tensor send = part_of(outgoing_, schedule_.gradient_finished(rank_, before));
    const Tensor receive = part_of(home_, schedule_.gradient_finished(last_reader, before));
    transfers.push_back(cp_.start_exchange(send, send ? schedule_.source(rank_, before) : -1, receive,
                                           receive ? last_reader : -1, Communicator::Kind::kMessage));
  }
}

void RingAttention::backward_remote(int step, Tensor q, Tensor dout, Tensor lse, double scale) {
  const Halves read = schedule_.read(rank_, step);
  for (int half = 0; half < 2; ++half)
    if (read.has(half)) {
      const Tensor block = block_[step % 2];
      backend_.fill(part_.rows(half, half + 1), 0);
      backend_.attention_backward(dq_, half_of(part_, half, 0), half_of(part_, half, 1), q, half_of(block, half, 0),
                                  half_of(block, half, 1), dout, lse, delta_,
                                  half_mask(schedule_.source(rank_, step), half), scale);
    }
}

void RingAttention::backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out,
                             Tensor lse, double scale) {
  CHECK(shape_.backward, "this ring was built for forward passes only");
  CHECK(first_, "set_mask comes before backward");
  backend_.attention_delta(delta_, dout, out);
  for (const Tensor& accumulator : {dq_, dk_, dv_}) backend_.fill(accumulator, 0);
  if (ranks_ > 1) pack_own(k, v);

  // Step W has no work left: the last gradients come home in it.
  for (int step = 0; step <= (ranks_ > 1 ? ranks_ : 0); ++step) {
    Transfers transfers;
    if (auto keys = start_keys(step)) transfers.push_back(std::move(keys));
    start_gradients(step, transfers);
    if (step == 0) backend_.attention_backward(dq_, dk_, dv_, q, k, v, dout, lse, delta_, own_mask(), scale);
    poll(transfers);
    if (step > 0 && step < ranks_) backward_remote(step, q, dout, lse, scale);
    for (const auto& transfer : transfers) transfer->wait();
    if (step == 0 || step == ranks_) continue;

    // This rank's part and that of the ranks before it become one, which is sent while the next block is worked on.
    const Halves mine = schedule_.read(rank_, step);
    const Halves theirs = step > 1 ? schedule_.gradient_carried(schedule_.source(rank_, 1), step - 1) : Halves{};
    for (int half = 0; half < 2; ++half) {
      if (!theirs.has(half)) continue;
      const Tensor sum = part_.rows(half, half + 1);
      const Tensor received = incoming_.rows(half, half + 1);
      mine.has(half) ? backend_.add(sum, received) : backend_.copy(sum, received);
    }
    std::swap(part_, outgoing_);
  }

  if (ranks_ > 1) {
    for (int half = 0; half < 2; ++half) {
      Halves came;
      for (int step = 1; step < ranks_; ++step)
        if (schedule_.gradient_finished(schedule_.reader(rank_, step), step).has(half))
          (half == 0 ? came.early : came.late) = true;
      if (!came.has(half) || (half == 0 && broken(TestBreak::kRingDropsLastGradientHop))) continue;
      const int64_t begin = half * layout_.half();
      backend_.add(dk_.slice(1, begin, begin + layout_.half()), half_of(home_, half, 0));
      backend_.add(dv_.slice(1, begin, begin + layout_.half()), half_of(home_, half, 1));
    }
  }
  backend_.copy(dq, dq_);
  backend_.copy(dk, dk_);
  backend_.copy(dv, dv_);
}

int64_t RingAttention::forward_bytes(const SequenceLayout& layout, const Shape& shape) {
  return causal_halves(layout).keys * half_elements(layout, shape) * static_cast<int64_t>(size_of(shape.compute));
}

int64_t RingAttention::backward_bytes(const SequenceLayout& layout, const Shape& shape) {
  return forward_bytes(layout, shape) + causal_halves(layout).gradients * half_elements(layout, shape) *
                                            static_cast<int64_t>(size_of(accumulate_type(shape.compute)));
}

}  // namespace carillon
