// Embeddings of whole documents by any model, on any grid: what the last norm gives, pooled, to unit length. And the
// ways LongEmbed (Zhu et al., 2404.12096, section 4) lists for documents longer than a model was trained at that ask
// for no training; a rotation that reaches further (rope.type linear, ntk …) is the other one, and is the scorer's.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "launch/inference/scorer.h"

namespace carillon {

enum class Pooling {
  kMean,  // of all tokens
  kLast,  // the last token's
};

// The positions of a document of n tokens, L having been trained; g = ⌈n/L⌉.
enum class LongPositions {
  kConsecutive,  // i
  kGrouped,      // ⌊i/g⌋: neighbours share one
  kRecurrent,    // i mod L
  kChunks,       // i mod L, and no chunk of L sees another; their embeddings are averaged (parallel context windows)
};

struct EmbeddingOptions {
  Pooling pooling = Pooling::kMean;
  LongPositions positions = LongPositions::kConsecutive;
  int64_t trained = 0;  // L; 0: the rotation's original_max_position_embeddings
};

class Embedder {
 public:
  // By the scorer's network and rotation.
  explicit Embedder(Scorer& scorer) : scorer_(scorer) {}

  // Documents (at least one token each) go to the data-parallel ranks in turn. On the world's rank 0
  // `done(index, embedding)` is called for each in order, with [C] numbers. Collective over the world; every rank gives
  // the same documents.
  using Done = std::function<void(size_t index, const std::vector<double>& embedding)>;
  void embed(const std::vector<std::vector<int32_t>>& documents, const EmbeddingOptions& options, const Done& done);

 private:
  std::vector<double> embed_own(const std::vector<int32_t>& document, const EmbeddingOptions& options);

  Scorer& scorer_;
};

}  // namespace carillon
