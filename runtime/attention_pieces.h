// Attention for an engine that computes whole blocks only (runtime/cuda/attention/fused_attention.h): a block's mask in
// pieces of which it can have the whole ones, and how large a block may be.
//
// One rule: a piece is whole where every row sees every key (below the diagonal) or row i sees keys 0 … i (on it), and
// no document begins, no window ends and no sequence differs inside it. Rows of padding may lie in any piece. What is
// not whole goes to kernels that take every mask.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/backend.h"

namespace carillon {

// Rows and keys of a piece at most: 4096, or CARILLON_ATTENTION_EDGE (tests: pieces of short sequences). Error 64 where
// that is no number from 1 on.
int64_t attention_edge();

// The rows of a call on the host, and what of its keys' mask does not depend on the piece.
struct HostMask {
  std::span<const int64_t> query_index;  // [Tq]
  std::span<const int64_t> first;        // [B, Tq]
  std::span<const int64_t> key_index;    // [Tk]
  int64_t batch = 1;
  bool own = false;  // the keys are the rows' own: the same indices
};
// Pieces of at most edge × edge that hold every visible pair once, by rows and in these by keys; those without a
// visible pair are left out, neighbours in a row that are not whole are one. Empty where none is whole.
std::vector<MaskPiece> mask_pieces(const HostMask& mask, int64_t edge);

// The pieces of a call of `rows` rows and `keys` keys: whole as its shape says, or its pieces, or one that is not
// whole.
std::vector<MaskPiece> pieces_of(const MaskShape& shape, int64_t rows, int64_t keys);

// A whole piece cut into ones of at most edge × edge, by rows and in these by keys. Of a causal piece those on the
// diagonal are causal and those behind it full.
std::vector<MaskPiece> cut(const MaskPiece& piece, int64_t edge);

}  // namespace carillon
