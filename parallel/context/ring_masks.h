// The masks of a micro-batch as a rank of the ring needs them: for each mask, which of its own keys and of the keys of
// every half its rows see, in what shape (runtime/backend.h), and which halves have to travel (ring_schedule.h).
#pragma once

#include <vector>

#include "parallel/context/ring_schedule.h"
#include "parallel/context/sequence_layout.h"
#include "parallel/transport/communicator.h"
#include "runtime/attention_pieces.h"
#include "runtime/backend.h"
#include "runtime/buffer.h"

namespace carillon {

class RingMasks {
 public:
  // `count` masks for `batch` sequences. Allocates the indices of rows and keys from `arena`. ring_inner: as for
  // RingSchedule.
  RingMasks(Backend& backend, Communicator& cp, const SequenceLayout& layout, int64_t batch, int count, int ring_inner,
            Arena& arena);

  // See RingAttention::set_mask.
  void set(int which, Tensor first, Tensor host);
  bool is_set(int which) const { return static_cast<bool>(at(which).first); }

  AttentionMask own(int which) const;                            // of this rank's rows over its own keys
  AttentionMask of_half(int which, int source, int half) const;  // … over half a block of rank `source`
  const RingSchedule& schedule(int which) const { return at(which).schedule; }

 private:
  struct Mask {
    RingSchedule schedule;
    Tensor first;  // [B, Tl] int64, the caller's
    MaskShape own;
    std::vector<MaskShape> halves;  // [source, half]
    // Pieces of the shapes above that are not whole.
    std::vector<MaskPiece> own_pieces;
    std::vector<std::vector<MaskPiece>> half_pieces;  // [source, half]
  };
  const Mask& at(int which) const { return masks_[static_cast<size_t>(which)]; }
  size_t half_index(int source, int half) const { return static_cast<size_t>(2 * source + half); }
  void upload_indices();
  void upload_dropped_documents(Tensor first);
  bool sees_half(int source, int half) const;
  // These read staged_first_. The pieces that the result refers to are stored in `pieces`.
  MaskShape own_shape(std::vector<MaskPiece>& pieces) const;
  MaskShape half_shape(int source, int half, std::vector<MaskPiece>& pieces) const;
  MaskShape piecewise(std::vector<MaskPiece>& pieces, const std::vector<int64_t>& keys, bool own) const;

  Backend& backend_;
  Communicator& cp_;
  SequenceLayout layout_;
  int64_t batch_;
  int rank_, ranks_;
  std::vector<Mask> masks_;
  Tensor query_index_;     // [Tl] int64
  Tensor sequence_index_;  // [T] int64: 0, 1, 2 …; the indices of any half are a slice of it (W > 1)
  bool indices_ready_ = false;

  // Host staging of set(): `first`, and whether this rank (all ranks) reads each half, [ranks, 2].
  std::vector<int64_t> staged_first_, staged_reads_, all_reads_;
};

}  // namespace carillon
