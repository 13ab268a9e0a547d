// The rotations of a transformer: the tables of cosines and sines that its layers read, the row of a table that belongs
// to a position, the factor of queries with a temperature, and the gradient of a rotation that is learned.
//
// Layers with full attention read table 0. Windowed layers read table 1 if the model gives them a rotation of their own
// or if an evaluation may (forward only), otherwise table 0. With mixed windows (LongRoPE2, 2502.20082) a table has
// twice the rows: first those for documents of up to original_max_position_embeddings tokens, which use the list of
// short factors, then those for longer documents.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "model/config.h"
#include "model/parameters.h"
#include "model/rope.h"
#include "runtime/backend.h"
#include "runtime/buffer.h"

namespace carillon {

struct RotationTable {
  Tensor cosine, sine;  // [positions, or twice as many with mixed windows; R] (A)
};

class Rotations {
 public:
  struct Options {
    DType compute;
    int64_t positions;  // rows for a document: one more than the largest position
    bool training;
    bool generation;  // mixed windows then choose by the length that set() is given
  };
  // Allocates all tables from `arena`; set() fills them. Fails with error 64 if a learned rotation (CLEX) is trained
  // for windowed layers or beside mixed windows.
  Rotations(Backend& backend, const ModelConfig& config, Parameters& parameters, const Options& options, Arena& arena);

  // Fills the tables for sequences of `length` tokens; see Transformer::set_rotation.
  void set(const ModelRope& rope, int64_t length);

  const RotationTable& table(bool windowed) const { return tables_[index(windowed)]; }

  // With mixed windows of the rotation that was set: the row of the tables for a position in a document of `reach`
  // positions. Otherwise the row is the position.
  bool mixed() const { return mixed_; }
  int64_t row(int64_t position, int64_t reach) const {
    return reach > mixed_length_ ? position + options_.positions : position;
  }

  // Queries at `position` are multiplied by 1 + beta · ln(1 + floor(position / trained length)) (Llama 4, Ministral 3).
  bool has_query_temperature() const { return temperature_beta_ != 0; }
  double query_factor(int64_t position) const;

  // Training a learned rotation: every layer adds its part to the gradient with respect to the frequencies, after
  // begin_gradient() and before finish_gradient(), which adds the gradient of the weights to the parameters'.
  bool learns(bool windowed) const { return rates_ && index(windowed) == 0; }
  Tensor frequency_gradient() const { return rates_; }  // [R] float64
  void begin_gradient();
  void finish_gradient();

 private:
  size_t index(bool windowed) const { return windowed && tables_[1].cosine ? 1 : 0; }
  RopeConfig with_learned_weights(const RopeConfig& rope) const;
  void fill(size_t which, const RopeConfig& rope, int64_t length);

  Backend& backend_;
  Parameters& parameters_;
  Options options_;
  int64_t head_dim_;
  bool mixed_tables_, mixed_ = false;  // twice the rows; the rotation that was set uses them
  int64_t mixed_length_ = 0;           // the last document length of a table's first half
  RotationTable tables_[2];            // the second is absent if windowed layers read the first
  double temperature_beta_ = 0, temperature_length_ = 1;

  // While a rotation is learned: the gradients with respect to its frequencies and, in memory of the device, to its
  // weights; the rotation that set() was given, with those weights, and what it gave.
  Tensor rates_, weight_gradient_;
  RopeConfig learned_;
  double learned_stretch_ = 1;
  std::vector<double> learned_frequencies_;
};

}  // namespace carillon
