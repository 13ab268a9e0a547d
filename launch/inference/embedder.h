// Embeddings of whole documents by any model, on any grid: the output of the last norm, pooled and scaled to unit
// length. Also the training-free methods that LongEmbed (Zhu et al., 2404.12096, section 4) lists for documents longer
// than the trained length, except the extended rotations (rope.type linear, ntk …), which the scorer handles.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "launch/inference/scorer.h"

namespace carillon {

enum class Pooling {
  kMean,  // of all tokens
  kLast,  // of the last token
};

// The positions of a document of n tokens; L is the trained length and g = ⌈n/L⌉.
enum class LongPositions {
  kConsecutive,  // i
  kGrouped,      // ⌊i/g⌋: neighbours share a position
  kRecurrent,    // i mod L
  kChunks,  // i mod L, and chunks of L do not see each other; their embeddings are averaged (parallel context windows)
};

struct EmbeddingOptions {
  Pooling pooling = Pooling::kMean;
  LongPositions positions = LongPositions::kConsecutive;
  int64_t trained = 0;  // L; 0: the rotation's original_max_position_embeddings
};

class Embedder {
 public:
  // Uses the scorer's network and rotation.
  explicit Embedder(Scorer& scorer) : scorer_(scorer) {}

  // Embeds documents (of at least one token each), distributing them round-robin over the data-parallel ranks. On the
  // world's rank 0, `done(index, embedding)` is called for each in order, with [C] numbers. Collective over the world;
  // every rank must pass the same documents.
  using Done = std::function<void(size_t index, const std::vector<double>& embedding)>;
  void embed(const std::vector<std::vector<int32_t>>& documents, const EmbeddingOptions& options, const Done& done);

 private:
  std::vector<double> embed_own(const std::vector<int32_t>& document, const EmbeddingOptions& options);

  Scorer& scorer_;
};

}  // namespace carillon
