// Trains a tiny model on any grid, ranks as threads, with the Network and the gradients of a real run, and brings
// everything home at global shape, so that tests compare layouts by comparing maps of vectors.
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

// One whole sequence: documents concatenated, every token but the last of a document has a target.
struct TinySequence {
  std::vector<int64_t> tokens;
  std::vector<int64_t> document_lengths;  // sum = tokens.size()
  std::vector<double> weights;            // of each token as a target (document's first: ignored); empty: all 1
};

// Moves one tensor before the first step: weight += distance · direction. For finite differences.
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
  std::function<std::unique_ptr<Backend>()> backend;  // in place of `device`
  // Puts something in the tensor ranks' way to each other.
  std::function<std::unique_ptr<Communicator>(std::unique_ptr<Communicator>)> tensor_group;
  std::string device = "reference";  // or cpu, cuda, isolated, isolated-cpu (isolated_backend.h)
  int accumulation = 1;
  int steps = 1;
  double learning_rate = 1e-3;
  double max_grad_norm = 1.0;
  uint64_t seed = 7;
  std::optional<LongLossSettings> long_loss;  // train.loss longce
  bool random_adapter = false;                // an adapter whose B is not zero, so that A has a gradient
  bool random_rotation = false;               // the same of a learned rotation (model/clex.h)
  TinyMove move;
  std::vector<TinySequence> sequences;  // all of the same length; each step takes them all
};

struct TinyResult {
  std::vector<double> loss;                              // per step: Σ weight·loss / Σ weight over everything
  std::vector<double> gradient_norm;                     // per step, before clipping
  std::vector<double> cross_entropy;                     // per step with long_loss: without its weights
  std::map<std::string, std::vector<double>> gradients;  // of the first step, summed over everything, undivided
  std::map<std::string, std::vector<double>> weights;    // after the last step
  std::map<std::string, std::vector<double>> state;      // optimizer's, one rank only: by dataset path
  size_t device_bytes = 0, host_bytes = 0;               // of world rank 0
  std::vector<std::vector<double>> token_loss;           // first step: [sequence][index], 0 without target
};

TinyResult run_tiny(const TinyRun& run);

// A llama of 2 layers, 4 query and 2 key/value heads of 8, 24 channels, 131 tokens, weights large enough to matter.
ModelConfig tiny_config();
// As many layers as this, all like the first.
void set_depth(ModelConfig& config, int64_t layers);
// `count` sequences of `length` random tokens, cut into documents of the given lengths (empty: one document).
std::vector<TinySequence> tiny_sequences(int count, int64_t length, int64_t vocabulary,
                                         std::vector<int64_t> document_lengths = {}, uint64_t seed = 3);

}  // namespace carillon::testing
