// The checkpoints of a run: when one is due, writing it while training waits or in the background (checkpoint.async),
// and which one is kept as the best (checkpoint.best).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/checkpoint/background_save.h"
#include "launch/train/run_log.h"
#include "launch/train/training_state.h"

namespace carillon {

// The contents of a checkpoint, computed when it is written. `sync_records` runs on the rank that writes the records
// and makes durable those that the checkpoint counts as written.
struct CheckpointContents {
  std::function<std::vector<NamedShard>()> shards;
  std::function<Manifest()> manifest;
  std::function<void()> sync_records;
};

class RunCheckpoints {
 public:
  // Allocates the memory that background saves copy into; if it is insufficient, gives a warning, and training waits
  // for every save. All arguments must outlive this object. `saved_step`: the step of an existing checkpoint, -1 for
  // none. Fails with error 73 if a rank does not find the run's locked folder or cannot write there. Collective.
  RunCheckpoints(const RunConfig& config, ProcessGrid& grid, TrainingState& state, RunLog& log,
                 CheckpointContents contents, int64_t saved_step);

  int64_t saved_step() const { return saved_step_; }
  void set_saved_step(int64_t step) { saved_step_ = step; }
  int64_t rollbacks() const { return rollbacks_; }  // since the last checkpoint
  void count_rollback() { ++rollbacks_; }

  // This rank's contributions to a step's exchange: whether its clock asks for a checkpoint, and whether its part of
  // the save in flight is written. The outcome of the exchange is passed to `decide`.
  bool due_by_clock() const;
  bool is_written() const { return background_ && background_->in_flight() && background_->written(); }
  void decide(bool timed_save_due, bool written_by_all);

  // Whether the step just taken needs a checkpoint: by the clock, by checkpoint.every_steps, or as the best so far.
  bool is_due() const;
  // Saves the step's checkpoint; skips it with a warning if there is no space. Collective, like all below.
  void save();
  // Saves, waits and must succeed: error 74 if there is no space. Does nothing if the step's checkpoint exists.
  void save_last();
  // Waits for the save in flight, if there is one, and makes it a checkpoint.
  void finish_save();
  // Does the same if every rank's part is written, otherwise nothing.
  void finish_written_save();

  // Waits until the save in flight has copied weights and moments; called before they change. Not collective.
  void wait_until_copied();

  // Records that this step's evaluation was better than all before it and needs a checkpoint. `before`: the best until
  // now.
  void keep_as_best(const BestSoFar& before);
  // Goes back to the previous best if no checkpoint of the new one could be saved.
  void forget_unsaved_best();

 private:
  void write(bool must_succeed);
  void note(const SaveResult& result, int64_t step, bool must_succeed, const std::string& time);
  void name_best() const;
  int64_t best_to_keep() const;

  const RunConfig& config_;
  ProcessGrid& grid_;
  TrainingState& state_;
  RunLog& log_;
  CheckpointContents contents_;
  int64_t saved_step_;
  int64_t rollbacks_ = 0;
  std::chrono::steady_clock::time_point last_save_ = std::chrono::steady_clock::now();
  bool timed_save_due_ = false;

  std::unique_ptr<BackgroundSave> background_;  // null: every save is waited for
  int64_t background_step_ = 0;                 // of the save in flight
  double background_seconds_ = 0;               // that training waited for the save in flight
  bool background_written_ = false;             // by every rank, as of the last step

  bool is_best_ = false;  // the step's evaluation was the best, and it has no checkpoint yet
  BestSoFar best_before_;
};

}  // namespace carillon
