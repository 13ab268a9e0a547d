// Splits the mask of an attention block into pieces for an engine that computes whole blocks only
// (runtime/cuda/attention/fused_attention.h), and says how large such a block may be.
//
// A piece is whole if every row sees every key (below the diagonal) or row i sees keys 0 … i (on the diagonal): no
// document begins, no window ends and no sequences differ inside it. Padding rows may lie in any piece. Pieces that are
// not whole go to kernels that accept every mask.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/backend.h"

namespace carillon {

// The maximum number of rows, and of keys, of a piece: 4096, or CARILLON_ATTENTION_EDGE (tests use it to split short
// sequences). Throws error 64 if that is not a positive integer.
int64_t attention_edge();

// The mask of a call in host memory.
struct HostMask {
  std::span<const int64_t> query_index;  // [Tq]
  std::span<const int64_t> first;        // [B, Tq]
  std::span<const int64_t> key_index;    // [Tk]
  int64_t batch = 1;
  bool own = false;  // rows and keys are the same tokens, with the same indices
};
// Returns pieces of at most edge × edge that contain every visible pair once, ordered by rows, then by keys. Pieces
// without a visible pair are left out; neighbours along the keys that are not whole are merged. Empty if no piece is
// whole.
std::vector<MaskPiece> mask_pieces(const HostMask& mask, int64_t edge);

// The pieces of a call of `rows` rows and `keys` keys: a single whole one if its shape says so, else shape.pieces, else
// a single one that is not whole.
std::vector<MaskPiece> pieces_of(const MaskShape& shape, int64_t rows, int64_t keys);

// Cuts a whole piece into pieces of at most edge × edge, ordered by rows, then by keys. The parts of a causal piece are
// causal on the diagonal and full below it.
std::vector<MaskPiece> cut(const MaskPiece& piece, int64_t edge);

}  // namespace carillon
