// Log-probabilities of every token of every document, on any grid; forward only.
#pragma once

#include <functional>
#include <vector>

#include "launch/inference/score_documents.h"
#include "model/attention_statistics.h"
#include "model/network.h"

namespace carillon {

// Of one document, entry i about token i + 1; one entry fewer than tokens.
struct TokenScores {
  std::vector<double> loss;    // -log p(token i+1 | tokens up to i), nats
  std::vector<double> margin;  // its logit less the largest one: 0 where it is the greedy choice
};

class Scorer {
 public:
  // `longest`: tokens of the longest document to come. Weights are to be loaded into network() before the first score.
  Scorer(Backend& backend, ProcessGrid& grid, const ModelConfig& config, DType compute, LayoutKind layout,
         int64_t longest);

  // The same over weights that somebody else trains.
  Scorer(Backend& backend, ProcessGrid& grid, const ModelConfig& config, DType compute, LayoutKind layout,
         int64_t longest, Parameters& shared);

  Network& network() { return network_; }
  ProcessGrid& grid() { return grid_; }

  // Another rotation for the same weights. Error 64 when it turns another number of pairs.
  void set_rope(const ModelRope& rope);

  const ModelRope& rope() const { return rope_; }
  int64_t width() const { return config_.hidden_size; }

  // The network for a sequence of `tokens` tokens whose positions stay below `reach`: what a rotation goes by that
  // follows the length. Done by score() for each document.
  void prepare(int64_t tokens, int64_t reach);

  // What documents scored from here on are looked at by; null: nothing.
  void set_statistics(AttentionStatistics* statistics) { statistics_ = statistics; }

  // Documents go to the data-parallel ranks in turn, one at a time. On the world's rank 0 `done(index, scores)` is
  // called for each in order. Collective over the world; every rank gives the same documents.
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

// The sequence length a document is padded to: a few sizes instead of every one, so that kernels made for a shape are
// used again; at most an eighth longer. Never under 2·cp.
int64_t padded_score_length(int64_t tokens, int cp);

}  // namespace carillon
