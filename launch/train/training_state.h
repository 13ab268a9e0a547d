// The state of a training run besides weights and moments: a few numbers, kept in the checkpoint's manifest.
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
  int64_t sequences = 0;        // position in the data: training sequences consumed, or skipped by a rollback
  int64_t tokens_total = 0;     // target tokens of the steps taken
  int64_t updates = 0;          // optimizer updates: steps that were not skipped
  int64_t nonfinite_steps = 0;  // skipped consecutively until now
  int64_t spikes = 0;           // the same for loss spikes
  std::vector<double> spike_window;
  BestSoFar best;               // of the evaluations
  bool evaluation_due = false;  // an evaluation after `step` is incomplete: a signal interrupted it
};

// A checkpoint to resume from. The setting (launch/README.md) `auto` selects the newest whole one in the run's folder,
// passing over damaged ones with a warning; a path selects exactly that one; `never` selects none and requires that the
// folder has none.
struct ResumePoint {
  std::string path;
  Manifest manifest;
  TrainingState state;
};

// Compares the data of a run with what a checkpoint was trained on. Returns one line per difference: a file with other
// content, another list of files, another tokenizer, another chat template or end-of-document token. Files that only
// moved count as the same. template_hash: empty if no template was used.
std::vector<std::string> data_changes(const Manifest& manifest, const std::vector<FileContent>& sources,
                                      const Tokenizer* tokenizer, const std::string& template_hash = "",
                                      std::optional<uint32_t> end_of_document = {});

// Returns the total number of steps of a run: max_steps, or the rest of `epochs` after `state` in steps of `block`
// sequences. Fails with error 64 for more than kMostSteps, and for one_cycle whose warm-up takes all steps.
int64_t total_steps(const TrainSection& train, const TrainingState& state, int64_t sequences_of_epoch, int64_t block);

// Returns what looks resumable by its manifest, before anything large is allocated. Collective. Error 64 for `never` if
// checkpoints exist, for a path in the run's folder if that has later steps, for another geometry; 65 if all are
// damaged.
std::vector<ResumePoint> find_resume_points(Communicator& world, const RunConfig& config, const Notice& notice);

// Loads the first of `points` that proves intact, byte for byte; returns nothing if `points` is empty (a fresh start).
// Names damaged ones through `notice`. Fails with error 65 if none is intact. Collective.
std::optional<ResumePoint> load_resume_point(const ProcessGrid& grid, const std::vector<ResumePoint>& points,
                                             Network& network, const Notice& notice);

// Returns this rank's part of everything that a checkpoint holds of `network`.
std::vector<NamedShard> checkpoint_shards(Network& network, const ProcessGrid& grid);
// Fails with error 65 if an adapter's checkpoints were written with another base than `model`'s.
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
