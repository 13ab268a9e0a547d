// Sums of losses by unit, which a sweep keeps beside its records (SWEEP/losses/POINT.json) so that two points can be
// compared token by token: what one setting scored in a document, the other must have scored in the same.
//
// A unit is a document. Where there is only one (a book), it is a piece of kPieceTokens scored tokens of it;
// neighbouring pieces are joined to blocks when they are compared (comparison.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "model/rope_config.h"

namespace carillon {

struct LossSum {
  double loss = 0;    // Σ weight · loss, nats
  double weight = 0;  // Σ weight
  int64_t tokens = 0;

  void add(double token_loss, double token_weight) {
    loss += token_weight * token_loss;
    weight += token_weight;
    ++tokens;
  }
  void add(const LossSum& other) { loss += other.loss, weight += other.weight, tokens += other.tokens; }
};

struct LossUnit {
  LossSum all;
  std::map<int64_t, LossSum> by_position;  // by the bin's place in UnitLosses::position_bins; empty bins are left out
  std::map<int64_t, LossSum> past_training;

  void add(const LossUnit& other);
};

struct UnitLosses {
  using Bins = std::vector<std::pair<int64_t, int64_t>>;  // [from, to)
  static constexpr int64_t kPieceTokens = 256;

  std::string tokenizer;       // its hash; empty: the data was tokens
  int64_t trained_length = 0;  // of the model, which past_training counts from
  Bins position_bins, past_bins;
  // What was scored, in the data's order: hash of each document's tokens, windows and weights. Documents without a
  // scored token do not stand here.
  std::vector<std::string> documents;
  std::vector<LossUnit> units;  // one a document; of a single document its pieces

  Json json() const;
  static UnitLosses parse(const Json& json);
};

// Where a point's are kept. The file is complete before the point's record is written.
std::string unit_losses_path(const std::string& sweep, const std::string& point);
// Error 65 naming a file that cannot be read as such, 66 when there is none.
UnitLosses read_unit_losses(const std::string& path);

}  // namespace carillon
