// Sums of losses by unit, stored with a sweep's records (SWEEP/losses/POINT.json) so that two points can be compared
// token by token: both settings must have scored the same tokens of a document.
//
// A unit is a document. If there is only one (a book), a unit is a piece of kPieceTokens of its scored tokens; the
// comparison joins neighbouring pieces to blocks (comparison.h).
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
  std::map<int64_t, LossSum> by_position;  // by index in UnitLosses::position_bins; empty bins are left out
  std::map<int64_t, LossSum> past_training;

  void add(const LossUnit& other);
};

struct UnitLosses {
  using Bins = std::vector<std::pair<int64_t, int64_t>>;  // [from, to)
  static constexpr int64_t kPieceTokens = 256;

  std::string tokenizer;       // hash; empty: the data consisted of token ids
  int64_t trained_length = 0;  // of the model; past_training counts from it
  Bins position_bins, past_bins;
  // What was scored, in the data's order: a hash of each document's tokens, windows and weights. Documents without a
  // scored token are left out.
  std::vector<std::string> documents;
  std::vector<LossUnit> units;  // one per document; for a single document one per piece

  Json json() const;
  static UnitLosses parse(const Json& json);
};

// Where a point's losses are stored. The file is complete before the point's record is written.
std::string unit_losses_path(const std::string& sweep, const std::string& point);
// Fails with error 65 naming a file that is not valid, 66 if there is none.
UnitLosses read_unit_losses(const std::string& path);

}  // namespace carillon
