// Positions with skips, which show a model the distances of long sequences in short ones. A document's tokens keep
// their order and their visibility; only the positions at which they are rotated change. The random numbers are
// counter-based: they are a function of the run's seed, the sequence's number among all sequences of the run, and the
// document's place in the sequence. They are therefore the same on every layout and after a resume, and different in
// each epoch.
//
//   consecutive  0, 1, 2, …
//   pose         PoSE (Zhu et al., 2309.10400) with two chunks, drawn as in its code: of n tokens the first r keep
//                their positions, r uniform in [1, ⌊(n + 1)/2⌋], and all others are moved by u, uniform in
//                [0, length − n]. Both chunks keep their places in the text (v_i = 0 in the paper, which found that
//                this choice matters little), so that every token of the data is trained on.
//   skipalign    SkipAlign (Wu et al., 2405.03939) with skips between blocks: at each boundary between trained and
//                untrained tokens (prompt and answer, turn and turn), with skip_probability everything after it is
//                moved by u, uniform in what is left of length − n. Positions within a block stay consecutive.
//   random       CLEX (Chen et al., 2310.16450), drawn as in its code, and earlier RandPos (Ruoss et al.,
//                2305.16843): of n tokens the first is at position 0 and the last at the end of `stretch` · n
//                positions (n is at most `trained` here); the others are at distinct random positions in between,
//                in order.
#pragma once

#include <cstdint>
#include <span>

namespace carillon {

enum class PositionKind { kConsecutive, kPose, kSkipAlign, kRandom };

struct PositionSettings {
  PositionKind kind = PositionKind::kConsecutive;
  int64_t length = 0;  // all positions are below it; at least the length of a sequence. Unused by kConsecutive
  double skip_probability = 0.5;
  int64_t stretch = 1, trained = 0;  // kRandom: replace `length`, which still bounds all positions
};

// Identifies the document whose positions are drawn.
struct PositionDraw {
  uint64_t seed;
  int64_t sequence;  // its number among all sequences of the run
  int64_t document;  // its place in the sequence
};

// Draws the positions of a document of position.size() tokens. `weights` holds the weight of each token as a target
// (the first is ignored); empty: all 1.
void draw_positions(std::span<int64_t> position, std::span<const double> weights, const PositionSettings& settings,
                    const PositionDraw& draw);

// PoSE's two chunks: the first `chunk` positions count from 0, the rest is `skip` higher.
void positions_with_one_skip(std::span<int64_t> position, int64_t chunk, int64_t skip);

}  // namespace carillon
