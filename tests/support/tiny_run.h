// Trains a tiny model on any grid with ranks as threads, using the Network and the gradients of a real run. Collects
// all results at global shape, so that tests can compare layouts by comparing maps of vectors.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/long_loss_settings.h"
#include "model/network.h"

namespace carillon::testing {

// One whole sequence of concatenated documents; every token except the last of a document has a target.
struct TinySequence {
  std::vector<int64_t> tokens;
  std::vector<int64_t> document_lengths;  // sum = tokens.size()
  std::vector<double> weights;            // of each token as a target (ignored for a document's first); empty: all 1
};

// Changes one tensor before the first step, for finite differences: weight += distance · direction.
struct TinyMove {
  std::string name;
  std::vector<double> direction;
  double distance = 0;
};

struct TinyRun {
  ModelConfig config;
  GridShape grid;
  LayoutKind layout = LayoutKind::kZigzag;
  DType compute = DType::kFloat64;
  Recompute recompute = Recompute::kSelective;
  int zero = 1;
  int64_t loss_chunk_rows = 0;
  int64_t mlp_tile = 0;
  int64_t tensor_chunks = 0;
  Offload offload = Offload::kNone;
  int64_t offload_chunk = int64_t{4} << 20;
  std::function<std::unique_ptr<Backend>()> backend;  // overrides `device`
  // Wraps the communicator between tensor ranks.
  std::function<std::unique_ptr<Communicator>(std::unique_ptr<Communicator>)> tensor_group;
  std::string device = "reference";  // or cpu, cuda, isolated, isolated-cpu (isolated_backend.h)
  int accumulation = 1;
  int steps = 1;
  double learning_rate = 1e-3;
  double max_grad_norm = 1.0;
  uint64_t seed = 7;
  std::optional<LongLossSettings> long_loss;  // train.loss longce
  bool random_adapter = false;                // an adapter whose B is not zero, so that A has a gradient
  bool random_rotation = false;               // the same for a learned rotation (model/clex.h)
  TinyMove move;
  std::vector<TinySequence> sequences;  // all of the same length; each step uses all of them
};

struct TinyResult {
  std::vector<double> loss;                              // per step: Σ weight·loss / Σ weight over everything
  std::vector<double> gradient_norm;                     // per step, before clipping
  std::vector<double> cross_entropy;                     // per step with long_loss: without its weights
  std::map<std::string, std::vector<double>> gradients;  // of the first step, summed over everything, not averaged
  std::map<std::string, std::vector<double>> weights;    // after the last step
  std::map<std::string, std::vector<double>> state;      // of the optimizer, by dataset path; with one rank only
  size_t device_bytes = 0, host_bytes = 0;               // of world rank 0
  std::vector<std::vector<double>> token_loss;           // first step: [sequence][index], 0 without target
};

TinyResult run_tiny(const TinyRun& run);

// A llama with 2 layers, 4 query and 2 key/value heads of size 8, 24 channels, a vocabulary of 131, and weights large
// enough to matter.
ModelConfig tiny_config();
// Sets the number of layers, all like the first.
void set_depth(ModelConfig& config, int64_t layers);
// `count` sequences of `length` random tokens, divided into documents of the given lengths (empty: one document).
std::vector<TinySequence> tiny_sequences(int count, int64_t length, int64_t vocabulary,
                                         std::vector<int64_t> document_lengths = {}, uint64_t seed = 3);

}  // namespace carillon::testing
