// Which tokens of a sequence a context rank holds. A value type: pure index arithmetic, no communication.
//
// A sequence of T tokens is padded to a multiple of 2·cp·tp (padding is masked and has no targets). Zigzag cuts it into
// 2·cp chunks; rank r holds chunk r (its "early half") and chunk 2·cp-1-r (its "late half"), so that causal work is
// equal on all ranks. Local order is increasing in sequence index.
//   T = 8, cp = 2     index 0 1 2 3 4 5 6 7
//                     rank  0 0 1 1 1 1 0 0
//                     local 0 1 0 1 2 3 2 3
// Contiguous: rank r holds [r·Tl, (r+1)·Tl); its two halves are simply the first and the second half of that range.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/tensor.h"

namespace carillon {

enum class LayoutKind { kZigzag, kContiguous };

class SequenceLayout {
 public:
  // length: tokens of the sequence before padding. Throws error 64 if length < 2·cp.
  SequenceLayout(LayoutKind kind, int64_t length, int cp, int tp);

  LayoutKind kind() const { return kind_; }
  int cp() const { return cp_; }
  int64_t length() const { return length_; }       // as given
  int64_t padded() const { return padded_; }       // T, a multiple of 2·cp·tp
  int64_t local() const { return padded_ / cp_; }  // Tl, a multiple of 2·tp
  int64_t half() const { return local() / 2; }

  int64_t index_of(int cp_rank, int64_t local) const;  // local -> sequence index
  struct Place {
    int cp_rank;
    int64_t local;
  };
  Place place_of(int64_t sequence_index) const;     // sequence index -> (rank, local)
  std::vector<int64_t> indices(int cp_rank) const;  // [Tl], increasing

  // local[B, Tl] = whole[B, length] at this rank's indices; padding tokens get `padding`. Host tensors, int64 or a
  // floating type.
  void shard(Tensor local, Tensor whole, int cp_rank, double padding) const;

 private:
  LayoutKind kind_;
  int64_t length_;
  int64_t padded_;
  int cp_;
};

}  // namespace carillon
