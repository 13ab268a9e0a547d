#include "launch/train/run_checkpoints.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <thread>

#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "launch/session/process_id.h"
#include "launch/session/run_lock.h"
#include "launch/train/replica_check.h"
#include "runtime/progress.h"
#include "runtime/stop_request.h"
#include "runtime/trace.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Every rank writes its part of a checkpoint, so every rank must see the folder that rank 0 has locked, and may write
// there: a working directory or a disk of its own would otherwise be noticed only at the first checkpoint. A network
// file system may show a new folder to other machines seconds later. Error 73. Collective.
void require_one_folder(Communicator& world, const std::string& folder) {
  constexpr double kSecondsUntilVisible = 10;
  const std::string holder = broadcast_text(world, world.rank() == 0 ? run_holder(folder) : "");
  if (holder.empty()) return;  // not locked
  const std::string host = broadcast_text(world, host_name());
  agree(world, [&] {
    if (world.rank() == 0) return;
    const std::string shown = fs::absolute(folder).string();
    const Clock::time_point begin = Clock::now();
    while (run_holder(folder) != holder) {
      throw_if_stop_requested("looking for the run's folder");
      if (seconds_since(begin) > kSecondsUntilVisible)
        fail(ExitCode::kCannotCreate,
             "rank {} on {} does not find the folder that rank 0 on {} writes to, {}, name an output that all ranks "
             "share (absolute if their working directories differ)",
             world.rank(), host_name(), host, shown);
      std::error_code ignored;
      fs::directory_iterator(fs::path(shown).parent_path(), ignored);  // makes a network file system look again
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    if (access(folder.c_str(), W_OK | X_OK) != 0)
      fail_to_create(fmt::format("rank {} on {} cannot write to the run's folder", world.rank(), host_name()), errno,
                     shown, "make it writable or name another output");
  });
}

}  // namespace

RunCheckpoints::RunCheckpoints(const RunConfig& config, ProcessGrid& grid, TrainingState& state, RunLog& log,
                               CheckpointContents contents, int64_t saved_step)
    : config_(config), grid_(grid), state_(state), log_(log), contents_(std::move(contents)), saved_step_(saved_step) {
  require_one_folder(*grid_.world, config_.output);
  if (!config_.checkpoint.async) return;
  background_ = std::make_unique<BackgroundSave>(*grid_.world, checkpoints_folder(config_), config_.checkpoint.keep);
  const std::string lack = background_->reserve(contents_.shards());
  if (lack.empty()) return;
  background_.reset();
  log_.warning(fmt::format("checkpoint.async is true, but training will wait for checkpoints: {}", lack));
}

bool RunCheckpoints::due_by_clock() const {
  return config_.checkpoint.every && seconds_since(last_save_) >= *config_.checkpoint.every;
}

void RunCheckpoints::decide(bool timed_save_due, bool written_by_all) {
  timed_save_due_ = timed_save_due;
  background_written_ = written_by_all;
}

// Not due while steps fail: the checkpoint would push out one that is known to be good.
bool RunCheckpoints::is_due() const {
  const auto& every = config_.checkpoint.every_steps;
  if (state_.nonfinite_steps > 0) return false;
  return timed_save_due_ || is_best_ || (every && state_.step % *every == 0);
}

void RunCheckpoints::save() {
  finish_save();
  write(false);
}

void RunCheckpoints::save_last() {
  finish_save();
  if (saved_step_ != state_.step) write(true);
}

void RunCheckpoints::write(bool must_succeed) {
  const TraceSpan span("checkpoint");
  const Activity activity("a checkpoint");
  const Clock::time_point begin = Clock::now();
  const std::vector<NamedShard> shards = contents_.shards();
  require_equal_replicas(grid_, shards);
  Manifest manifest = contents_.manifest();
  last_save_ = begin;
  timed_save_due_ = false;
  if (background_ && !must_succeed) {
    background_step_ = state_.step;
    const SaveResult begun = background_->begin(std::move(manifest), shards, contents_.sync_records);
    background_seconds_ = seconds_since(begin);
    if (!background_->in_flight()) note(begun, state_.step, false, "");
    return;
  }
  agree(*grid_.world, contents_.sync_records);
  const SaveResult result = save_checkpoint(*grid_.world, checkpoints_folder(config_), std::move(manifest), shards,
                                            config_.checkpoint.keep, best_to_keep());
  last_save_ = Clock::now();
  note(result, state_.step, must_succeed, fmt::format("{:.1f} s", seconds_since(begin)));
}

void RunCheckpoints::wait_until_copied() {
  if (!background_ || background_->copied()) return;
  const TraceSpan span("checkpoint");
  const Clock::time_point begin = Clock::now();
  background_->wait_until_copied();
  background_seconds_ += seconds_since(begin);
}

void RunCheckpoints::finish_written_save() {
  if (background_written_) finish_save();
}

void RunCheckpoints::finish_save() {
  if (!background_ || !background_->in_flight()) return;
  const TraceSpan span("checkpoint");
  const Activity activity("a checkpoint");
  const Clock::time_point begin = Clock::now();
  const SaveResult result = background_->finish(best_to_keep());
  background_seconds_ += seconds_since(begin);
  note(result, background_step_, false,
       fmt::format("{:.1f} s, training waited {:.3f} s of them", seconds_since(last_save_), background_seconds_));
}

void RunCheckpoints::note(const SaveResult& result, int64_t step, bool must_succeed, const std::string& time) {
  if (result.saved) {
    saved_step_ = step;
    rollbacks_ = 0;
    if (is_best_ && step == state_.best.step) is_best_ = false;
    name_best();
    log_.notice(fmt::format("checkpoint {} in {}", result.path, time));
    if (!result.trouble.empty()) log_.warning(result.trouble);
  } else if (must_succeed) {
    fail(ExitCode::kInputOutput, "no space for the checkpoint of step {} ({}), {}, make room and start again", step,
         result.why_not, checkpoints_folder(config_));
  } else {
    forget_unsaved_best();
    log_.warning(fmt::format("checkpoint of step {} skipped, tried again at the next: {}", step, result.why_not));
  }
}

void RunCheckpoints::keep_as_best(const BestSoFar& before) {
  best_before_ = before;
  is_best_ = config_.checkpoint.best_metric && saved_step_ != state_.step;
  if (saved_step_ == state_.step) name_best();
}

void RunCheckpoints::forget_unsaved_best() {
  if (!is_best_) return;
  is_best_ = false;
  state_.best.value = best_before_.value;
  state_.best.step = best_before_.step;
}

// The step whose checkpoint is kept as the best; -1: none.
int64_t RunCheckpoints::best_to_keep() const { return config_.checkpoint.best_metric ? state_.best.step : -1; }

// Writes checkpoints/best, like checkpoints/latest: a name for users and scripts.
void RunCheckpoints::name_best() const {
  if (!config_.checkpoint.best_metric || state_.best.step == 0 || grid_.world->rank() != 0) return;
  try {
    replace_file(checkpoints_folder(config_) + "/best", fmt::format("step-{:08}\n", state_.best.step));
  } catch (const Error&) {  // advisory; the next save writes it again
  }
}

}  // namespace carillon
