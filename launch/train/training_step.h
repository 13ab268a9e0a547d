// What a training step computes, whoever asks for it: `train`, which keeps a run's books around it, and `verify`, which
// compares layouts. One place, so that what is verified is what trains.
#pragma once

#include <memory>
#include <optional>

#include "data/corpus/batch_loader.h"
#include "data/corpus/corpus.h"
#include "launch/config/run_config.h"
#include "launch/session/opened_model.h"
#include "model/gradient_step.h"
#include "model/long_loss.h"

namespace carillon {

// The run's training tokens. `say` is called with what is read and how much of it is trained, `warn` what is wrong with
// it, a source that trains nothing among it. Collective.
Corpus open_training_data(Communicator& world, const RunConfig& config, const ModelConfig& model,
                          const Tokenizer* tokenizer, const Notice& say, const Notice& warn);

// What data.positions comes to with the model's rotation. Error 64 where it leaves nothing to skip.
PositionSettings positions_of(const RunConfig& config, const ModelRope& rope);

// What the run's network is built from: `train` makes it, `plan` measures it. Error 64 as positions_of.
NetworkOptions network_options_of(const RunConfig& config, const ModelRope& rope);

class TrainingStep {
 public:
  // All memory of the steps; weights are to be loaded or drawn. Collective in nothing; everything given must outlive
  // it. Errors as Network's, and 64 for train.offload on a backend whose memory is the host's.
  TrainingStep(Backend& backend, ProcessGrid& grid, const ModelConfig& model, const RunConfig& config,
               const Corpus& corpus);

  // Weights from `model`'s source, or by the seed without one; of a new adapter by the seed. Collective.
  void start_fresh(OpenedModel& model, const Notice& notice);
  // Those that no checkpoint of this run holds: an adapter's base. Collective.
  void load_frozen(OpenedModel& model, const Notice& notice);

  // Gradients of the step before which `taken` sequences were taken, all its micro-steps; it takes loader().block()
  // more. The update is network().optimizer().step(…).
  StepSums accumulate(int64_t taken);

  Network& network() { return network_; }
  BatchLoader& loader() { return loader_; }

 private:
  Backend& backend_;
  ProcessGrid& grid_;
  const RunConfig& config_;
  BatchLoader loader_;
  Network network_;
  ShardedBatch sharded_;
  // A learned rotation's table for this step, and how far its positions are stretched.
  void follow_rotation(int64_t taken);

  const ModelConfig& model_;
  int64_t rotation_length_;
  std::optional<LongLoss> long_loss_;
  MicroBatch weighed_;
};

}  // namespace carillon
