// Log-probabilities of every token of every document, on any grid; forward pass only.
#pragma once

#include <functional>
#include <vector>

#include "launch/inference/score_documents.h"
#include "model/attention_statistics.h"
#include "model/network.h"

namespace carillon {

// Scores of one document: entry i is for token i + 1, so there is one entry fewer than tokens.
struct TokenScores {
  std::vector<double> loss;    // -log p(token i+1 | tokens up to i), nats
  std::vector<double> margin;  // its logit minus the largest one: 0 if it is the greedy choice
};

class Scorer {
 public:
  // `longest`: tokens of the longest document to come. Weights must be loaded into network() before the first score.
  Scorer(Backend& backend, ProcessGrid& grid, const ModelConfig& config, DType compute, LayoutKind layout,
         int64_t longest);

  // Uses weights that are being trained elsewhere.
  Scorer(Backend& backend, ProcessGrid& grid, const ModelConfig& config, DType compute, LayoutKind layout,
         int64_t longest, Parameters& shared);

  Network& network() { return network_; }
  ProcessGrid& grid() { return grid_; }

  // Sets another rotation for the same weights. Throws error 64 if the number of rotated pairs differs.
  void set_rope(const ModelRope& rope);

  const ModelRope& rope() const { return rope_; }
  int64_t width() const { return config_.hidden_size; }

  // Prepares the network for a sequence of `tokens` tokens whose positions stay below `reach`, the length used by
  // rotations that depend on the sequence length. score() calls it for each document.
  void prepare(int64_t tokens, int64_t reach);

  // Collects these statistics from documents scored from now on; null: none.
  void set_statistics(AttentionStatistics* statistics) { statistics_ = statistics; }

  // Scores documents one at a time, distributed round-robin over the data-parallel ranks. On the world's rank 0,
  // `done(index, scores)` is called for each in order. Collective over the world; every rank must pass the same
  // documents.
  using Done = std::function<void(size_t index, const TokenScores& scores)>;
  void score(const std::vector<ScoreDocument>& documents, const Done& done);

 private:
  TokenScores score_own(const ScoreDocument& document);
  std::vector<double> in_sequence_order(Tensor rows, size_t count);

  Backend& backend_;
  ProcessGrid& grid_;
  const ModelConfig& config_;
  ModelRope rope_;
  Network network_;
  AttentionStatistics* statistics_ = nullptr;
  int64_t rotation_for_ = -1;  // length the rotation table was made for; -1: none yet
};

// Returns the length to which a document is padded. Only a few lengths occur, so that kernels prepared for a shape are
// reused. At most an eighth longer from 128 tokens on; always at least 2·cp.
int64_t padded_score_length(int64_t tokens, int cp);

}  // namespace carillon
