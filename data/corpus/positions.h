// Positions with skips, so that a short sequence shows a model the distances of a long one. A document's tokens keep
// their order and whom they see; what changes is the position each is rotated at. The numbers are counter-based: a
// function of the run's seed, of the sequence's number among all that the run takes and of the document's place in it,
// so the same on every layout and after a resume, and new ones each epoch.
//
//   consecutive  0, 1, 2, …
//   pose         PoSE (Zhu et al., 2309.10400), two chunks as its code draws them: of n tokens the first r keep their
//                positions, r uniform in [1, ⌊(n + 1)/2⌋], and all others are moved by u, uniform in [0, length − n].
//                Both chunks stay where they are in the text (the paper's v_i = 0: it found the choice to matter
//                little, and so every token of the data is trained on).
//   skipalign    SkipAlign (Wu et al., 2405.03939), skips between blocks: where trained and untrained tokens meet
//                (prompt and answer, turn and turn), with skip_probability all that follows is moved by u, uniform in
//                what is left of length − n. Positions within a block stay consecutive.
//   random       CLEX (Chen et al., 2310.16450) as its code draws them, and before it RandPos (Ruoss et al.,
//                2305.16843): of n tokens the first is at 0, the last at the end of `stretch` times n positions (n at
//                most `trained` here), the others at as many different places between them, in order.
#pragma once

#include <cstdint>
#include <span>

namespace carillon {

enum class PositionKind { kConsecutive, kPose, kSkipAlign, kRandom };

struct PositionSettings {
  PositionKind kind = PositionKind::kConsecutive;
  int64_t length = 0;  // all positions are below it; at least as long as a sequence. Not read by kConsecutive
  double skip_probability = 0.5;
  int64_t stretch = 1, trained = 0;  // kRandom: read in place of `length`, which still bounds all positions
};

// Which document's: they are drawn by these.
struct PositionDraw {
  uint64_t seed;
  int64_t sequence;  // its number among all that the run takes
  int64_t document;  // its place in the sequence
};

// Positions of a document of position.size() tokens. weights: of each token as a target, the first one's not looked at;
// empty: all 1.
void draw_positions(std::span<int64_t> position, std::span<const double> weights, const PositionSettings& settings,
                    const PositionDraw& draw);

// PoSE's two chunks: the first `chunk` positions count from 0, those after them are `skip` further.
void skip_behind(std::span<int64_t> position, int64_t chunk, int64_t skip);

}  // namespace carillon
