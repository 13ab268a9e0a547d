// How a model attends (Zhong et al., 2406.13282, section 4): for sampled queries, the entropy of attention's
// distribution over keys, and its mass by distance and on the first tokens; and how much each rotary pair contributes
// to the logits. Computed on the host in float64 from attention's inputs and outputs, p = exp(scale · query · key −
// log-sum-exp). Sampled queries are sent to all context ranks, each of which sums over its own keys.
//
// The share of the softmax that learned sinks take counts neither as mass nor in the entropy.
#pragma once

#include <cstdint>
#include <vector>

#include "model/transformer.h"

namespace carillon {

class AttentionStatistics {
 public:
  struct Options {
    int64_t length = 0;        // of the longest document
    int64_t queries = 64;      // per document, evenly spaced, including its last token
    int64_t first_tokens = 4;  // number of tokens whose mass is summed separately
  };
  // `grid` and `config` must outlive it.
  AttentionStatistics(ProcessGrid& grid, const ModelConfig& config, const Options& options);

  // Announces that the next pass is over one document of `tokens` tokens, in a sequence with this layout.
  void begin_document(const SequenceLayout& layout, int64_t tokens);
  // Collective over the context ranks.
  void add(Backend& backend, const AttentionView& view);

  struct Result {
    int64_t queries = 0;                       // per head
    std::vector<std::vector<double>> entropy;  // [L][NH] means over queries, in nats
    std::vector<std::vector<double>> first;    // [L][NH] mass on the first tokens
    std::vector<double> mass_by_distance;  // at distance 0, 1, 2–3, 4–7 …: means over layers, heads and queries
    std::vector<double> entropy_by_position;  // for queries at position 0, 1, 2–3, 4–7 …: the same means
    std::vector<int64_t> queries_by_position;
    // |query|²·|key|² of each pair, times scale²: product of the mean squares, summed over layers and heads, as a share
    // of all pairs.
    std::vector<double> pair_power;
  };
  // Sums over all ranks. Collective over the world.
  Result result();

  // Number n is in bin 0 if it is 0, otherwise in bin ⌊log₂ n⌋ + 1, which begins at first_of(bin).
  static size_t bin_of(int64_t number);
  static int64_t first_of(size_t bin) { return bin == 0 ? 0 : int64_t{1} << (bin - 1); }

 private:
  ProcessGrid& grid_;
  const ModelConfig& config_;
  Options options_;
  int64_t heads_, kv_heads_, pairs_;
  size_t bins_;
  // All statistics are sums over queries and keys, in one array that is summed over all ranks at the end.
  std::vector<double> sums_;
  size_t entropy_, first_, mass_, by_position_, query_power_, key_power_, counts_;  // where each part begins
  // Of the current document.
  SequenceLayout layout_;
  int64_t tokens_ = 0;
  std::vector<int64_t> sampled_;  // indices in the sequence, increasing
  std::vector<double> queries_;   // [sampled, NHl, HD + 1]: query and its log-sum-exp
};

}  // namespace carillon
