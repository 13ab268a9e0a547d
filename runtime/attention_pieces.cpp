#include "runtime/attention_pieces.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "runtime/error.h"

namespace carillon {
namespace {

using Kind = MaskPiece::Kind;

constexpr int64_t kEdge = 4096;

int64_t read_edge() {
  const char* text = std::getenv("CARILLON_ATTENTION_EDGE");
  if (text == nullptr || *text == 0) return kEdge;
  int64_t edge = 0;
  const char* end = text + std::strlen(text);
  if (const auto [stop, error] = std::from_chars(text, end, edge); error != std::errc() || stop != end || edge < 1)
    fail(ExitCode::kUsage, "CARILLON_ATTENTION_EDGE is \"{}\", in the environment, give a number of tokens from 1 on",
         text);
  return edge;
}

// The bounds of the mask intervals of rows [begin, end) of one sequence, from the first and the last row that see
// anything.
struct Corners {
  bool any = false;
  int64_t first_least = 0, first_most = 0, index_least = 0, index_most = 0;
};
Corners corners_of(const HostMask& mask, int64_t sequence, int64_t begin, int64_t end) {
  const int64_t* first = mask.first.data() + sequence * static_cast<int64_t>(mask.query_index.size());
  Corners corners;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t from = first[row], index = mask.query_index[static_cast<size_t>(row)];
    if (from > index) continue;  // padding
    if (!corners.any) corners = {true, from, from, index, index};
    corners.first_most = from, corners.index_most = index;
  }
  return corners;
}

// What rows with these corners see of keys [begin, end). `diagonal`: rows and keys are the same tokens.
enum class Sight { kNone, kFull, kCausal, kSome };
Sight sight(const Corners& rows, const HostMask& mask, int64_t begin, int64_t end, bool diagonal) {
  const int64_t first_key = mask.key_index[static_cast<size_t>(begin)],
                last_key = mask.key_index[static_cast<size_t>(end - 1)];
  if (!rows.any || rows.first_least > last_key || rows.index_most < first_key) return Sight::kNone;
  if (rows.first_most > first_key) return Sight::kSome;
  if (diagonal) return Sight::kCausal;
  return rows.index_least >= last_key ? Sight::kFull : Sight::kSome;
}

// The same over all sequences. Whole only if it is whole for every sequence that has rows other than padding here.
Sight sight(const std::vector<Corners>& rows, const HostMask& mask, int64_t begin, int64_t end, bool diagonal) {
  Sight all = Sight::kNone;
  bool blind = false;
  for (const Corners& sequence : rows) {
    if (!sequence.any) continue;
    const Sight one = sight(sequence, mask, begin, end, diagonal);
    if (one == Sight::kNone)
      blind = true;
    else if (all != Sight::kNone && all != one)
      return Sight::kSome;
    else
      all = one;
  }
  return blind && all != Sight::kNone ? Sight::kSome : all;
}

}  // namespace

int64_t attention_edge() {
  static const int64_t edge = read_edge();
  return edge;
}

std::vector<MaskPiece> mask_pieces(const HostMask& mask, int64_t edge) {
  const auto rows = static_cast<int64_t>(mask.query_index.size()), keys = static_cast<int64_t>(mask.key_index.size());
  std::vector<MaskPiece> pieces;
  bool whole = false;
  std::vector<Corners> corners(static_cast<size_t>(mask.batch));
  for (int64_t row = 0; row < rows; row += edge) {
    const int64_t row_end = std::min(row + edge, rows);
    for (int64_t sequence = 0; sequence < mask.batch; ++sequence)
      corners[static_cast<size_t>(sequence)] = corners_of(mask, sequence, row, row_end);
    for (int64_t key = 0; key < keys; key += edge) {
      const int64_t key_end = std::min(key + edge, keys);
      const Sight seen = sight(corners, mask, key, key_end, mask.own && row == key);
      if (seen == Sight::kNone) continue;
      const Kind kind = seen == Sight::kFull ? Kind::kFull : seen == Sight::kCausal ? Kind::kCausal : Kind::kIntervals;
      whole = whole || kind != Kind::kIntervals;
      if (kind == Kind::kIntervals && !pieces.empty() && pieces.back().kind == kind && pieces.back().row == row &&
          pieces.back().key + pieces.back().keys == key)
        pieces.back().keys += key_end - key;
      else
        pieces.push_back({row, row_end - row, key, key_end - key, kind});
    }
  }
  if (!whole) pieces.clear();
  return pieces;
}

std::vector<MaskPiece> pieces_of(const MaskShape& shape, int64_t rows, int64_t keys) {
  switch (shape.kind) {
    case MaskShape::Kind::kFull:
      return {{shape.begin, rows - shape.begin, 0, keys, Kind::kFull}};
    case MaskShape::Kind::kCausal:
      return {{0, rows, 0, keys, Kind::kCausal}};
    case MaskShape::Kind::kIntervals:
      break;
  }
  if (!shape.pieces.empty()) return {shape.pieces.begin(), shape.pieces.end()};
  return {{0, rows, 0, keys, Kind::kIntervals}};
}

std::vector<MaskPiece> cut(const MaskPiece& piece, int64_t edge) {
  std::vector<MaskPiece> parts;
  const bool causal = piece.kind == Kind::kCausal;
  for (int64_t row = 0; row < piece.rows; row += edge)
    for (int64_t key = 0; key < (causal ? row + 1 : piece.keys); key += edge)
      parts.push_back({piece.row + row, std::min(edge, piece.rows - row), piece.key + key,
                       std::min(edge, piece.keys - key), causal && key == row ? Kind::kCausal : Kind::kFull});
  return parts;
}

}  // namespace carillon
