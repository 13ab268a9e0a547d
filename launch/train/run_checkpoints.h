// The checkpoints of a run: when one is due, written while training waits or in the background (checkpoint.async), and
// which of them stays as the best (checkpoint.best).
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

// What a checkpoint is made of, asked for when one is written. `sync_records` makes durable, on the rank that writes
// them, the records that the checkpoint says were written before it.
struct CheckpointContents {
  std::function<std::vector<NamedShard>()> shards;
  std::function<Manifest()> manifest;
  std::function<void()> sync_records;
};

class RunCheckpoints {
 public:
  // Takes the memory that background saves copy into; where there is not enough, a warning says so and saves are waited
  // for. Everything given must outlive it. `saved_step`: whose checkpoint exists already, -1 for none. Collective.
  RunCheckpoints(const RunConfig& config, ProcessGrid& grid, TrainingState& state, RunLog& log,
                 CheckpointContents contents, int64_t saved_step);

  int64_t saved_step() const { return saved_step_; }
  void set_saved_step(int64_t step) { saved_step_ = step; }
  int64_t rollbacks() const { return rollbacks_; }  // since the last checkpoint
  void count_rollback() { ++rollbacks_; }

  // This rank's answers, for the exchange of a step: does its clock ask for a checkpoint; is its part of the save in
  // flight written. What the exchange decided is given to `decide`.
  bool due_by_clock() const;
  bool is_written() const { return background_ && background_->in_flight() && background_->written(); }
  void decide(bool timed_save_due, bool written_by_all);

  // After the step just taken: by the clock, by checkpoint.every_steps, or because it is the best so far.
  bool is_due() const;
  // Where space lacks, the step's checkpoint is skipped with a warning. Collective, like all below.
  void save();
  // Waits, and must succeed: error 74 without space. Nothing to do where the step's checkpoint exists.
  void save_last();
  // Waits for the save in flight, if there is one, and makes it a checkpoint.
  void finish_save();
  // The same once every rank's part is written, and not before.
  void finish_written_save();

  // Before weights or moments change: waits until the save in flight has its copy of them. This rank's own.
  void wait_until_copied();

  // The evaluation of this step was better than all before it, whose best is given: it needs a checkpoint.
  void keep_as_best(const BestSoFar& before);
  // Where none could be made of it, the one that is there stays the best.
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
  double background_seconds_ = 0;               // that training waited for it
  bool background_written_ = false;             // by every rank, as of the last step

  bool is_best_ = false;  // the step's evaluation was the best, and no checkpoint of it exists yet
  BestSoFar best_before_;
};

}  // namespace carillon
