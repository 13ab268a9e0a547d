// What a training step computes, whoever asks for it: `train`, which keeps a run's books around it, and `verify`, which
// compares layouts. One place, so that what is verified is what trains.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "data/corpus/batch_loader.h"
#include "data/corpus/token_store.h"
#include "launch/config/run_config.h"
#include "launch/session/opened_model.h"
#include "model/network.h"

namespace carillon {

// The run's model: `model.base` opened, or the geometry given (then without a source). Collective in its errors.
OpenedModel open_run_model(Communicator& world, const RunConfig& config, const Notice& notice);

// The run's training tokens. Collective.
TokenStore open_training_data(Communicator& world, const RunConfig& config, const ModelConfig& model,
                              const Tokenizer* tokenizer, const Notice& notice);

// What the run's network is built from: `train` makes it, `plan` measures it.
NetworkOptions network_options_of(const RunConfig& config);

// What one step adds up to over all ranks.
struct StepSums {
  double loss = 0;    // Σ weight · loss
  double weight = 0;  // Σ weight
  int64_t targets = 0;
};

// Gradients of one step, all its micro-steps; `batch(micro)` is what this rank computes with, good until the next.
StepSums accumulate_gradients(Network& network, ProcessGrid& grid, int64_t micro_steps,
                              const std::function<const MicroBatch&(int64_t)>& batch);

class TrainingStep {
 public:
  // All memory of the steps; weights are to be loaded or drawn. Collective in nothing; everything given must outlive
  // it. Errors as Network's, and 64 for train.offload on a backend whose memory is the host's.
  TrainingStep(Backend& backend, ProcessGrid& grid, const ModelConfig& model, const RunConfig& config,
               const TokenStore& store);

  // Weights from `model`'s source, or by the seed without one. Collective.
  void start_fresh(OpenedModel& model, const Notice& notice);

  using Sums = StepSums;
  // Gradients of the step before which `taken` sequences were taken, all its micro-steps; it takes loader().block()
  // more. The update is network().optimizer().step(…).
  Sums accumulate(int64_t taken);

  Network& network() { return network_; }
  BatchLoader& loader() { return loader_; }

 private:
  Backend& backend_;
  ProcessGrid& grid_;
  const RunConfig& config_;
  BatchLoader loader_;
  Network network_;
  ShardedBatch sharded_;
};

}  // namespace carillon
