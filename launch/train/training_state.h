// What a training run is beyond its weights and moments: a handful of numbers, kept in the checkpoint's manifest.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "data/checkpoint/checkpoint.h"
#include "data/files/same_files.h"
#include "launch/config/run_config.h"
#include "launch/evaluate/watched_metric.h"
#include "launch/session/opened_model.h"
#include "model/network.h"

namespace carillon {

struct TrainingState {
  int64_t step = 0;             // steps completed
  int64_t sequences = 0;        // the position in the data: training sequences taken, or passed over by a rollback
  int64_t tokens_total = 0;     // target tokens in them
  int64_t updates = 0;          // of the optimizer: steps that were not skipped
  int64_t nonfinite_steps = 0;  // skipped in a row, up to now
  int64_t spikes = 0;           // likewise, for a loss that spiked
  std::vector<double> spike_window;
  BestSoFar best;               // of the evaluations
  bool evaluation_due = false;  // after `step`, and not all of it done: a signal came
};

// Where a run goes on. Which checkpoint (launch/README.md): `auto` the newest in the run's folder that is whole,
// a damaged one is passed over with a warning; a path that one and no other; `never` none, and then there may be none.
struct ResumePoint {
  std::string path;
  Manifest manifest;
  TrainingState state;
};

// What the tokens of a run are made of: one line for each difference to what a checkpoint was trained on (a file with
// other content, another list of files, another tokenizer, another chat template or end-of-document token). Files that
// only moved are the same. template_hash: empty where no template had a part.
std::vector<std::string> data_changes(const Manifest& manifest, const std::vector<FileContent>& sources,
                                      const Tokenizer* tokenizer, const std::string& template_hash = "",
                                      std::optional<uint32_t> end_of_document = {});

// How many steps a run has in all: max_steps, or what is left of `epochs` after `state`, by steps of `block`
// sequences. Error 64 for more than kMostSteps, and for one_cycle whose warm-up takes all of them.
int64_t total_steps(const TrainSection& train, const TrainingState& state, int64_t sequences_of_epoch, int64_t block);

// Before anything large is made: what can be resumed by the look of its manifest. Collective. Errors: 64 for `never`
// with checkpoints there, for a path with later steps beside it, for another geometry; 65 when all are damaged.
std::vector<ResumePoint> find_resume_points(Communicator& world, const RunConfig& config, const Notice& notice);

// Loads the first of `points` that proves whole, byte for byte; nothing when `points` is empty (a fresh start). Damaged
// ones are named through `notice`. Error 65 when none is whole. Collective.
std::optional<ResumePoint> load_resume_point(const ProcessGrid& grid, const std::vector<ResumePoint>& points,
                                             Network& network, const Notice& notice);

// Everything a checkpoint holds of `network`, this rank's part.
std::vector<NamedShard> checkpoint_shards(Network& network, const ProcessGrid& grid);
// Error 65 where an adapter's checkpoints were written beside another base than `model`'s.
void require_same_base(const std::vector<ResumePoint>& points, const OpenedModel& model);
// What in the model's own configuration is not as it was when the first of `points` was written, though the run's is:
// the base's config.json was edited, or another model put in its place. One line each for what may differ (rotation,
// end tokens); error 64 for what computes another function of the same weights.
std::vector<std::string> base_changes(const std::vector<ResumePoint>& points, const RunConfig& config,
                                      const OpenedModel& model);
Manifest make_manifest(const RunConfig& config, const OpenedModel& model, const ProcessGrid& grid,
                       const TrainingState& state, const std::vector<FileContent>& sources, const Tokenizer* tokenizer,
                       const std::string& template_hash = "", std::optional<uint32_t> end_of_document = {});

std::string checkpoints_folder(const RunConfig& config);

}  // namespace carillon
