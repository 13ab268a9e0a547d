// One training run on this rank: opens everything it needs in order, then runs the training loop.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "launch/evaluate/training_evaluator.h"
#include "launch/session/run_lock.h"
#include "launch/session/session.h"
#include "launch/train/event_file.h"
#include "launch/train/metrics_file.h"
#include "launch/train/run_checkpoints.h"
#include "launch/train/run_log.h"
#include "launch/train/run_trace.h"
#include "launch/train/slow_ranks.h"
#include "launch/train/spike_guard.h"
#include "launch/train/training_state.h"
#include "launch/train/training_step.h"
#include "model/schedule.h"

namespace carillon {

class Trainer {
 public:
  // Opens model and data, loads the checkpoint to resume from, and only then writes into the run's folder: a start that
  // is refused leaves the folder as it was. Holds the folder's lock throughout. Collective. `config`: as given on the
  // command line, the same on every rank.
  Trainer(std::unique_ptr<Communicator> world, RunConfig config, bool quiet);

  // Trains to the last step, or until a signal asks it to stop. Returns kDone or kStopped; a complete checkpoint exists
  // then. Errors: 74 if the last checkpoint cannot be written, 76 if losses or gradients stay non-finite or spike. A
  // failure that another start would only repeat is noted in the file `ended`.
  ExitCode run();

  Backend& backend() const { return session_.backend(); }

 private:
  void check_outputs();
  void lock_run_folder();
  void open_run_folder();
  void open_model_and_data();
  void make_network();
  void start_or_resume();
  CheckpointContents checkpoint_contents();
  void count_steps();
  std::string describe_run() const;

  ExitCode train();
  void train_step();
  bool update(const StepSums& sums, StepMetrics& record);
  void give_up_if_lost();
  void set_suspect_checkpoints_aside();
  void roll_back();
  void note_failure(const Error& error);
  bool anyone_signalled();
  void finish_record(StepMetrics& record, double seconds);
  void share_decisions(StepMetrics& record);
  void look_for_slow_rank(StepMetrics& record, double own_seconds);
  void check_ranks_agree(const StepMetrics& record);
  void finish_folder();
  void judge();
  bool is_out_of_patience() const;
  bool evaluation_is_due() const;
  void evaluate();

  Network& network() const { return training_->network(); }
  BatchLoader& loader() const { return training_->loader(); }

  RunConfig config_;
  RunLog log_;
  Session session_;
  std::unique_ptr<RunLock> lock_;            // rank 0 only
  Communicator* world_ = &session_.world();  // before there is a grid
  ProcessGrid& grid_ = session_.grid();
  OpenedModel& model_ = session_.model();
  std::map<std::string, std::string> tokenizer_files_;  // rank 0 only
  Corpus corpus_;
  std::unique_ptr<TrainingStep> training_;
  std::unique_ptr<TrainingEvaluator> evaluator_;  // null: no evaluation is requested
  std::optional<WatchedMetric> watched_;          // not set: neither best checkpoint nor early stopping requested
  std::optional<MetricsFile> metrics_;            // rank 0 only
  std::optional<EventFile> events_;               // rank 0 only, if requested
  std::vector<ResumePoint> resume_points_;

  TrainingState state_;
  std::optional<RunCheckpoints> checkpoints_;
  SpikeGuard spike_guard_;
  SlowRanks slow_ranks_;
  bool roll_back_due_ = false;
  std::vector<int64_t> last_reported_memory_;  // memory_by_rank of the last record that had it
  Schedule schedule_;
  int64_t max_steps_ = 0;
  bool stop_requested_ = false;
  bool timed_evaluation_due_ = false;
};

}  // namespace carillon
