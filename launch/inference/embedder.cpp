#include "launch/inference/embedder.h"

#include <algorithm>
#include <cmath>

namespace carillon {

std::vector<double> Embedder::embed_own(const std::vector<int32_t>& document, const EmbeddingOptions& options) {
  const auto tokens = static_cast<int64_t>(document.size());
  const int64_t trained = options.trained > 0 ? options.trained : scorer_.rope().rope.original_max_position_embeddings;
  const int64_t group = (tokens + trained - 1) / trained;
  const LongPositions kind = options.positions;
  const int64_t chunk = kind == LongPositions::kChunks ? trained : tokens;
  // How far the positions reach: the length used by rotations that depend on it.
  const int64_t reach = kind == LongPositions::kConsecutive ? tokens
                        : kind == LongPositions::kGrouped   ? (tokens - 1) / group + 1
                                                            : std::min(tokens, trained);
  scorer_.prepare(tokens, reach);
  const SequenceLayout& layout = scorer_.network().layout();
  HostBatch whole(1, layout.length());
  for (int64_t i = 0; i < tokens; ++i) {
    const auto row = static_cast<size_t>(i);
    whole.tokens[row] = document[row];
    whole.position[row] = kind == LongPositions::kConsecutive ? i
                          : kind == LongPositions::kGrouped   ? i / group
                                                              : i % trained;
    whole.first[row] = i / chunk * chunk;
    whole.reach[row] = reach;
  }
  ProcessGrid& grid = scorer_.grid();
  ShardedBatch sharded(layout, grid.cp_rank, 1);
  Transformer& transformer = scorer_.network().transformer();
  transformer.encode(sharded.shard(whole.view()));

  // Weights of 0 and 1 per chunk, divided afterwards: exact in every type.
  std::vector<double> embedding, weight(static_cast<size_t>(layout.local()));
  const int64_t chunks = (tokens + chunk - 1) / chunk;
  for (int64_t at = 0; at < chunks; ++at) {
    const int64_t end = std::min(tokens, (at + 1) * chunk);
    const int64_t begin = options.pooling == Pooling::kLast ? end - 1 : at * chunk;
    for (int64_t row = 0; row < layout.local(); ++row) {
      const int64_t index = layout.index_of(grid.cp_rank, row);
      weight[static_cast<size_t>(row)] = begin <= index && index < end ? 1 : 0;
    }
    const std::vector<double> sum = transformer.pooled(weight);
    embedding.resize(sum.size());
    for (size_t i = 0; i < sum.size(); ++i) embedding[i] += sum[i] / static_cast<double>((end - begin) * chunks);
  }
  grid.cp->all_reduce(Tensor::of(embedding, {static_cast<int64_t>(embedding.size())}), Reduction::kSum);
  double square = 0;
  for (const double value : embedding) square += value * value;
  if (square > 0)
    for (double& value : embedding) value /= std::sqrt(square);
  return embedding;
}

void Embedder::embed(const std::vector<std::vector<int32_t>>& documents, const EmbeddingOptions& options,
                     const Done& done) {
  ProcessGrid& grid = scorer_.grid();
  const auto ranks = static_cast<size_t>(grid.shape.data);
  for (size_t round = 0; round < documents.size(); round += ranks) {
    const size_t mine = round + static_cast<size_t>(grid.dp_rank), end = std::min(round + ranks, documents.size());
    std::vector<double> own;
    if (mine < documents.size()) own = embed_own(documents[mine], options);
    const int64_t width = scorer_.width();
    std::vector<int64_t> counts(ranks);
    std::fill(counts.begin(), counts.begin() + static_cast<std::ptrdiff_t>(end - round), width);
    std::vector<double> all(static_cast<size_t>(width) * (end - round));
    grid.dp->all_gather(Tensor::of(all, {static_cast<int64_t>(all.size())}),
                        Tensor::of(own, {static_cast<int64_t>(own.size())}), counts);
    if (grid.world->rank() != 0) continue;
    for (size_t index = round; index < end; ++index) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>((index - round) * static_cast<size_t>(width));
      done(index, {begin, begin + width});
    }
  }
}

}  // namespace carillon
