// Packing decides which tokens of which documents make up each training sequence. It is a pure function of the
// documents' lengths, the mode and the sequence length, identical on every rank, and computed once, before any
// shuffling.
//
// A document longer than sequence_length is first cut into pieces of that length (the last one may be shorter). From
// then on every piece is a document in its own right: positions restart, and no token sees another piece. No token is
// ever dropped.
//
//   documents of 3, 6, 2, 5 tokens (a b c d), sequence_length 8
//     none      aaa.....  bbbbbb..  cc......  ddddd...    one document per sequence, padded
//     whole     aaa.....  bbbbbbcc  ddddd...              file order; what does not fit starts the next sequence
//     best_fit  bbbbbbcc  dddddaaa                        longest first, into the fullest sequence that has room
//     split     aaabbbbb  bccddddd                        concatenated and cut; only the last sequence is padded
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace carillon {

enum class PackingMode { kNone, kWhole, kBestFit, kSplit };  // packing: false | true | best_fit | split

// Tokens [begin, begin + length) of the whole token array: one document, or one piece of it.
struct Segment {
  int64_t begin;
  int64_t length;
  bool operator==(const Segment&) const = default;
};

struct PackingCounts {
  int64_t documents = 0;
  int64_t documents_cut = 0;  // documents cut into more than one piece
  int64_t pieces = 0;         // segments after cutting
  int64_t tokens = 0;         // all of them; none is dropped
  int64_t padded_tokens = 0;  // sequences · sequence_length − tokens
};

struct Packing {
  int64_t sequence_length = 0;
  std::vector<Segment> segments;       // 16 bytes per piece, grouped by sequence
  std::vector<int64_t> first_segment;  // [sequences + 1] into segments
  PackingCounts counts;

  int64_t sequences() const { return static_cast<int64_t>(first_segment.size()) - 1; }
  std::span<const Segment> sequence(int64_t index) const {
    return std::span(segments).subspan(static_cast<size_t>(first_segment[index]),
                                       static_cast<size_t>(first_segment[index + 1] - first_segment[index]));
  }
};

// document_begin[documents + 1]: where each document starts in the token array, strictly increasing (the reader rejects
// empty documents). sequence_length ≥ 1.
//
// best_fit works on windows of kBestFitWindow pieces. It takes the pieces longest first and puts each into the sequence
// with the least room that still fits it. At the end of a window all its sequences are closed, so a document moves by
// at most one window.
inline constexpr int64_t kBestFitWindow = 4096;
Packing pack(std::span<const int64_t> document_begin, PackingMode mode, int64_t sequence_length);

// "12 documents (3 cut), 17 pieces, 5 sequences of 8192, 1.2 % padding, none dropped", for the log.
std::string describe(const Packing& packing);

}  // namespace carillon
