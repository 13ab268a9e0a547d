// The computation of a training step. Both `train` (which adds a run's records and checkpoints) and `verify` (which
// compares layouts) use it, so what is verified is what trains.
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

// Opens the run's training tokens. `say` receives what is read and how much of it is trained, `warn` what is wrong with
// it, for example a source that trains nothing. Collective.
Corpus open_training_data(Communicator& world, const RunConfig& config, const ModelConfig& model,
                          const Tokenizer* tokenizer, const Notice& say, const Notice& warn);

// Resolves data.positions against the model's rotation. Fails with error 64 if nothing is left to skip.
PositionSettings positions_of(const RunConfig& config, const ModelRope& rope);

// The options from which `train` builds the run's network and `plan` measures it. Error 64 as positions_of.
NetworkOptions network_options_of(const RunConfig& config, const ModelRope& rope);

class TrainingStep {
 public:
  // Allocates all memory of the steps; the weights still have to be loaded or initialised. Not collective. All
  // arguments must outlive this object. Throws what Network throws, and error 64 for train.offload on a backend whose
  // memory is the host's.
  TrainingStep(Backend& backend, ProcessGrid& grid, const ModelConfig& model, const RunConfig& config,
               const Corpus& corpus);

  // Loads the weights from `model`'s source, or initialises them from the seed if it has none; a new adapter is
  // initialised from the seed. Collective.
  void start_fresh(OpenedModel& model, const Notice& notice);
  // Loads the weights that this run's checkpoints do not contain: the base of an adapter. Collective.
  void load_frozen(OpenedModel& model, const Notice& notice);

  // Accumulates the gradients of one step over all its micro-steps, starting after the first `taken` sequences of the
  // data; consumes loader().block() sequences. The update is network().optimizer().step(…).
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
  // Sets a learned rotation's table for this step, and the stretch of its positions.
  void follow_rotation(int64_t taken);

  const ModelConfig& model_;
  int64_t rotation_length_;
  std::optional<LongLoss> long_loss_;
  MicroBatch weighted_batch_;
};

}  // namespace carillon
