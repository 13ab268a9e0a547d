// One training run on this rank: everything it needs, made in order, and the loop. See README, "Code tour".
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "launch/evaluate/training_evaluator.h"
#include "launch/train/metrics_file.h"
#include "launch/train/run_log.h"
#include "launch/train/run_trace.h"
#include "launch/train/signals.h"
#include "launch/train/training_state.h"
#include "launch/train/training_step.h"
#include "model/schedule.h"

namespace carillon {

class Trainer {
 public:
  // Opens model, data and the run's folder, and loads the checkpoint to go on from. Collective. `config` as the command
  // line gave it, the same on every rank.
  Trainer(std::unique_ptr<Communicator> world, RunConfig config, bool quiet);

  // Trains to the last step, or until a signal asks to stop. kDone or kStopped; a complete checkpoint stands then.
  // Errors: 74 when the last checkpoint cannot be written, 76 when losses or gradients stay non-finite.
  ExitCode run();

  Backend& backend() const { return *backend_; }

 private:
  void open_run_folder();
  void open_model_and_data();
  void make_network();
  void start_or_resume();
  std::string describe_run() const;

  void train_step();
  void finish_record(StepRecord& record, double seconds);
  void share_decisions(StepRecord& record);
  void check_ranks_agree(const StepRecord& record);
  void finish_folder();
  bool save_is_due() const;
  void save(bool must_succeed);
  bool evaluation_is_due() const;
  void evaluate();

  Network& network() const { return training_->network(); }
  BatchLoader& loader() const { return training_->loader(); }

  RunConfig config_;
  std::unique_ptr<Communicator> world_;  // until the grid takes it
  RunLog log_;
  StopSignals signals_;
  std::unique_ptr<Backend> backend_;
  ProcessGrid grid_;  // its axes carry the backend's tensors
  OpenedModel model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::map<std::string, std::string> tokenizer_files_;  // rank 0 only
  std::optional<TokenStore> store_;
  std::unique_ptr<TrainingStep> training_;
  std::unique_ptr<TrainingEvaluator> evaluator_;  // null: nothing is asked for
  std::optional<MetricsFile> metrics_;            // rank 0 only
  std::vector<ResumePoint> resume_points_;

  TrainingState state_;
  Schedule schedule_;
  int64_t max_steps_ = 0;
  int64_t saved_step_ = 0;
  bool stop_requested_ = false;
  bool timed_save_due_ = false;
  bool timed_evaluation_due_ = false;
  std::chrono::steady_clock::time_point last_save_;
};

}  // namespace carillon
