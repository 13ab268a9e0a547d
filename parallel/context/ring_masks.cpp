#include "parallel/context/ring_masks.h"

#include <algorithm>
#include <numeric>

#include "parallel/injected_fault.h"

namespace carillon {

RingMasks::RingMasks(Backend& backend, Communicator& cp, const SequenceLayout& layout, int64_t batch, int count,
                     int ring_inner, Arena& arena)
    : backend_(backend),
      cp_(cp),
      layout_(layout),
      batch_(batch),
      rank_(cp.rank()),
      ranks_(cp.size()),
      masks_(static_cast<size_t>(count), Mask{RingSchedule(cp.size(), ring_inner),
                                              {},
                                              {},
                                              std::vector<MaskShape>(static_cast<size_t>(2 * cp.size())),
                                              {},
                                              std::vector<std::vector<MaskPiece>>(static_cast<size_t>(2 * cp.size()))}),
      staged_first_(arena.measuring() ? 0 : static_cast<size_t>(batch * layout.local())),
      staged_reads_(static_cast<size_t>(2 * cp.size())),
      all_reads_(static_cast<size_t>(2 * cp.size()) * cp.size()) {
  query_index_ = arena.allocate("attention.index", DType::kInt64, {layout.local()});
  if (ranks_ > 1) sequence_index_ = arena.allocate("attention.index", DType::kInt64, {layout.padded()});
}

void RingMasks::upload_indices() {
  if (indices_ready_) return;
  std::vector<int64_t> own = layout_.indices(rank_);
  backend_.upload(query_index_, Tensor::of(own, {layout_.local()}));
  if (ranks_ > 1) {
    std::vector<int64_t> all(static_cast<size_t>(layout_.padded()));
    std::iota(all.begin(), all.end(), 0);
    backend_.upload(sequence_index_, Tensor::of(all, {layout_.padded()}));
  }
  indices_ready_ = true;
}

void RingMasks::upload_dropped_documents(Tensor first) {
  for (int64_t& index : staged_first_)
    if (index < layout_.padded()) index = 0;
  backend_.upload(first, Tensor::of(staged_first_, {batch_, layout_.local()}));
}

void RingMasks::set(int which, Tensor first, Tensor host) {
  Mask& mask = masks_[static_cast<size_t>(which)];
  CHECK(first.rank() == 2 && first.size(0) == batch_ && first.size(1) == layout_.local(), "first is [B, Tl]",
        describe(first));
  upload_indices();
  mask.first = first;
  mask.own = {};
  const bool dropped = injected(InjectedFault::kDocumentMaskDropped);
  if (!host && ranks_ == 1 && !dropped) return;
  if (host)
    std::copy_n(host.span<int64_t>().begin(), staged_first_.size(), staged_first_.begin());
  else
    backend_.download(Tensor::of(staged_first_, {batch_, layout_.local()}), first);
  if (dropped) upload_dropped_documents(first);
  mask.own = own_shape(mask.own_pieces);
  if (ranks_ == 1) return;

  for (int source = 0; source < ranks_; ++source)
    for (int half = 0; half < 2; ++half) {
      const size_t index = half_index(source, half);
      mask.halves[index] = half_shape(source, half, mask.half_pieces[index]);
      staged_reads_[index] = sees_half(source, half) ? 1 : 0;
    }
  cp_.all_gather(Tensor::of(all_reads_, {ranks_, 2 * ranks_}), Tensor::of(staged_reads_, {1, 2 * ranks_}));
  mask.schedule.set(all_reads_);
}

// The keys of a half are the contiguous range [begin, begin + half). A row sees some of them unless its interval ends
// before the range or starts after it.
bool RingMasks::sees_half(int source, int half) const {
  const int64_t begin = layout_.index_of(source, half * layout_.half()), local = layout_.local();
  for (size_t row = 0; row < staged_first_.size(); ++row) {
    const int64_t from = staged_first_[row], own = layout_.index_of(rank_, static_cast<int64_t>(row) % local);
    if (from <= own && from < begin + layout_.half() && own >= begin) return true;
  }
  return false;
}

AttentionMask RingMasks::own(int which) const { return {query_index_, at(which).first, query_index_, at(which).own}; }

AttentionMask RingMasks::of_half(int which, int source, int half) const {
  int64_t begin = layout_.index_of(source, half * layout_.half());
  MaskShape shape = at(which).halves[half_index(source, half)];
  if (half == 1 && injected(InjectedFault::kRingWrongChunkOrder))
    begin = (ranks_ + source) * layout_.half(), shape = {};
  return {query_index_, at(which).first, sequence_index_.rows(begin, begin + layout_.half()), shape};
}

// In both layouts local order is sequence order, so own keys are causal unless a row's interval begins later.
MaskShape RingMasks::own_shape(std::vector<MaskPiece>& pieces) const {
  MaskShape shape{MaskShape::Kind::kCausal};
  const int64_t local = layout_.local(), begin = layout_.index_of(rank_, 0);
  for (int64_t row = 0; row < batch_ * local; ++row) {
    const int64_t first = staged_first_[static_cast<size_t>(row)];
    if (first > layout_.index_of(rank_, row % local))
      shape.empty_rows = true;
    else if (first > begin)
      return piecewise(pieces, {}, true);
  }
  return shape;
}

// Rows that come after a half see all of it, unless an interval begins inside it: all of this rank's rows,
// or those of its late half.
MaskShape RingMasks::half_shape(int source, int half, std::vector<MaskPiece>& pieces) const {
  MaskShape shape{MaskShape::Kind::kFull};
  const int64_t local = layout_.local(), begin = layout_.index_of(source, half * layout_.half());
  while (shape.begin < local && layout_.index_of(rank_, shape.begin) < begin) ++shape.begin;
  if (shape.begin == local) return {};
  for (int64_t row = 0; row < batch_ * local; ++row) {
    const int64_t first = staged_first_[static_cast<size_t>(row)], own = layout_.index_of(rank_, row % local);
    if (row % local < shape.begin) continue;
    if (first > own)
      shape.empty_rows = true;
    else if (first > begin || own < begin + layout_.half() - 1) {
      std::vector<int64_t> keys(static_cast<size_t>(layout_.half()));
      std::iota(keys.begin(), keys.end(), begin);
      return piecewise(pieces, keys, false);
    }
  }
  return shape;
}

// A shape that is not whole may still have whole pieces: documents longer than a piece, wide windows.
MaskShape RingMasks::piecewise(std::vector<MaskPiece>& pieces, const std::vector<int64_t>& keys, bool own) const {
  const std::vector<int64_t> rows = layout_.indices(rank_);
  pieces = mask_pieces({rows, staged_first_, own ? rows : keys, batch_, own}, attention_edge());
  MaskShape shape;
  shape.pieces = pieces;
  for (size_t row = 0; row < staged_first_.size(); ++row)
    if (staged_first_[row] > rows[row % rows.size()]) shape.empty_rows = true;
  return shape;
}

}  // namespace carillon
