#include "launch/train/trainer.h"

#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "data/checkpoint/checkpoint_folders.h"
#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "launch/report/report.h"
#include "launch/session/signals.h"
#include "launch/train/event_scalars.h"
#include "parallel/transport/wait_time.h"
#include "runtime/progress.h"
#include "runtime/stop_request.h"

namespace carillon {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

double seconds_since_epoch() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Five in a row are neither bad data nor a passing overflow: the run has diverged.
constexpr int64_t kNonfiniteStepsAllowed = 5;

}  // namespace

ExitCode Trainer::run() {
  try {
    return train();
  } catch (const Error& error) {
    note_failure(error);
    throw;
  }
}

ExitCode Trainer::train() {
  RunTrace trace(*grid_.world, config_.runtime.trace, config_.runtime.profile);
  stop_requested_ = anyone_signalled();
  set_stop_mode(StopMode::kTraining);
  // Makes up what was due when a signal came, or was requested since; completed points are not repeated.
  state_.evaluation_due = evaluator_ && state_.step > 0 && (state_.evaluation_due || evaluation_is_due());
  if (state_.evaluation_due && !stop_requested_) evaluate();
  const bool had_ended = state_.step >= max_steps_;
  while (state_.step < max_steps_ && !stop_requested_ && !is_out_of_patience()) {
    checkpoints_->forget_unsaved_best();
    train_step();
    trace.flush();
    checkpoints_->finish_written_save();
    if (roll_back_due_) {
      roll_back();
      continue;
    }
    // Before the checkpoint of the same step, so that a run resumed from it finds the evaluation done or noted as due.
    state_.evaluation_due = evaluation_is_due();
    if (state_.evaluation_due && !stop_requested_) evaluate();
    if (checkpoints_->is_due() && !stop_requested_ && state_.step < max_steps_ && !is_out_of_patience())
      checkpoints_->save();
  }
  checkpoints_->save_last();
  log_.finish();
  for (const std::string& line : trace.finish(*grid_.world)) log_.notice(line);
  if (!stop_requested_) {
    if (is_out_of_patience())
      log_.notice(fmt::format(
          "stopped after step {} of {}: {} has not got better in {} evaluations{}", state_.step, max_steps_,
          watched_->name(), state_.best.without_gain,
          state_.best.value ? fmt::format("; the best was {:.6g}, after step {}", *state_.best.value, state_.best.step)
                            : ""));
    else if (had_ended)
      log_.notice(
          fmt::format("nothing was left to do: the run has taken {} of {} steps; a larger train.max_steps (or "
                      "train.epochs) continues it",
                      state_.step, max_steps_));
    finish_folder();
    return ExitCode::kDone;
  }
  log_.notice(fmt::format("stopped by a signal after step {}; the same command resumes from there", state_.step));
  return ExitCode::kStopped;
}

bool Trainer::anyone_signalled() { return grid_.world->max(int64_t{stop_requested()}) > 0; }

// Marks the run as ended, for processes that watch it, if the same command would only repeat the failure. Errors worth
// a retry and requested stops do not end the run.
void Trainer::note_failure(const Error& error) {
  const ExitCode code = error.code();
  if (code == ExitCode::kInputOutput || code == ExitCode::kLostPeer || code == ExitCode::kStopped || lock_ == nullptr ||
      !lock_->has_folder())
    return;
  try {
    write_whole_file(config_.output + "/ended", fmt::format("{}\nexit code {}\n", state_.step, static_cast<int>(code)));
  } catch (const Error&) {  // the first failure is the one to report
  }
}

// Writes the report page, and the `ended` file that tells `sweep watch=true` that no more checkpoints will come. The
// run's work is complete by now: a failure here costs only the page and gives a warning.
void Trainer::finish_folder() {
  if (grid_.world->rank() != 0) return;
  try {
    if (lock_) lock_->require_folder();
    write_whole_file(config_.output + "/ended", fmt::format("{}\n", state_.step));
    write_whole_file(config_.output + "/report.html", report_html(read_results(config_.output)));
  } catch (const Error& error) {
    log_.warning(fmt::format("the run is complete, but its page is not: {}", error.what()));
  }
}

void Trainer::train_step() {
  const Clock::time_point begin = Clock::now();
  const Activity activity("a training step");
  const double waited = WaitTime::seconds();
  for (Communicator* axis : {grid_.dp.get(), grid_.cp.get(), grid_.tp.get(), grid_.dp_cp.get()}) axis->reset_traffic();
  StepMetrics record;
  record.lr = schedule_.factor(state_.step) * config_.train.learning_rate;
  const StepSums sums = training_->accumulate(state_.sequences);
  if (sums.weight > 0) {
    if (sums.cross_entropy) {
      record.cross_entropy = *sums.cross_entropy / sums.weight;
      record.longce_weight = *sums.emphasis / sums.weight;
    }
    const bool updated = update(sums, record);
    state_.nonfinite_steps = updated || record.spike ? 0 : state_.nonfinite_steps + 1;
    state_.spikes = record.spike ? state_.spikes + 1 : 0;
  }
  state_.step += 1;
  state_.sequences += loader().block();
  state_.tokens_total += sums.targets;
  state_.updates = network().optimizer().updates();
  record.step = state_.step;
  record.tokens = sums.targets;
  record.tokens_total = state_.tokens_total;
  const double own_seconds = seconds_since(begin) - (WaitTime::seconds() - waited);
  share_decisions(record);
  look_for_slow_rank(record, own_seconds);
  finish_record(record, seconds_since(begin));
  check_ranks_agree(record);
  give_up_if_lost();
}

// Updates the weights, unless the step's loss or gradients are not finite or the loss spikes. Returns whether it did.
bool Trainer::update(const StepSums& sums, StepMetrics& record) {
  const double loss = sums.loss / sums.weight;
  if (!std::isfinite(loss)) return false;
  record.loss = loss;
  if (spike_guard_.is_spike(loss)) {
    const SpikeAction action = config_.train.spike.action_or_default();
    record.spike = action == SpikeAction::kSkip ? "skip" : action == SpikeAction::kRollback ? "rollback" : "stop";
    log_.warning(fmt::format("step {}: the loss {:.4g} is a spike, the median of the last {} is {:.4g}: {}",
                             state_.step + 1, loss, spike_guard_.window().size(), spike_guard_.median(),
                             action == SpikeAction::kSkip ? "no update in this step" : *record.spike));
    roll_back_due_ = action == SpikeAction::kRollback;
    return false;
  }
  checkpoints_->wait_until_copied();
  const auto outcome = network().optimizer().step(sums.weight, record.lr, config_.train.adamw.beta1);
  if (std::isfinite(outcome.gradient_norm)) record.grad_norm = outcome.gradient_norm;
  if (outcome.updated) spike_guard_.accept(loss);
  return outcome.updated;
}

void Trainer::give_up_if_lost() {
  if (state_.spikes > 0 && config_.train.spike.action_or_default() == SpikeAction::kStop)
    fail(ExitCode::kNumeric,
         "the loss of step {} is more than {} times the median of those before it, {}, lower train.learning_rate, look "
         "at that step's data, or set train.spike.action=skip",
         state_.step, config_.train.spike.factor_or_default(), config_.output + "/metrics.jsonl");
  if (state_.spikes >= kNonfiniteStepsAllowed)
    fail(ExitCode::kNumeric,
         "the loss spiked in {} steps in a row, {}, lower train.learning_rate or raise train.spike.factor",
         state_.spikes, config_.output + "/metrics.jsonl");
  if (state_.nonfinite_steps < kNonfiniteStepsAllowed) return;
  set_suspect_checkpoints_aside();
  fail(ExitCode::kNumeric,
       "loss or gradient norm was not finite in {} steps in a row, {}, lower train.learning_rate or resume from an "
       "older "
       "checkpoint",
       kNonfiniteStepsAllowed, config_.output + "/metrics.jsonl");
}

// A checkpoint is proven by the finite step after it. The checkpoint before the first failed step, and any later one,
// hold the weights that made it fail (or met the data that did), so the next start begins from an older one.
void Trainer::set_suspect_checkpoints_aside() {
  checkpoints_->finish_save();
  agree(*grid_.world, [&] {
    if (grid_.world->rank() != 0) return;
    for (const std::string& aside :
         set_checkpoints_aside(checkpoints_folder(config_), state_.step - state_.nonfinite_steps))
      log_.warning(fmt::format("{} was written just before losses stopped being finite: set aside", aside));
  });
}

// Restores weights, moments and counts from the newest checkpoint; data continues after the sequences already consumed.
void Trainer::roll_back() {
  roll_back_due_ = false;
  checkpoints_->finish_save();
  checkpoints_->count_rollback();
  if (checkpoints_->rollbacks() > kNonfiniteStepsAllowed)
    fail(ExitCode::kNumeric,
         "the run went back {} times without reaching another checkpoint, {}, lower train.learning_rate or raise "
         "train.spike.factor",
         kNonfiniteStepsAllowed, config_.output + "/metrics.jsonl");
  const int64_t taken = state_.sequences, from = state_.step, spikes = state_.spikes;
  const Notice notice = [this](const std::string& text) { log_.warning(text); };
  RunConfig newest = config_;
  newest.checkpoint.resume = "auto";
  const auto point = load_resume_point(grid_, find_resume_points(*grid_.world, newest, notice), network(), notice);
  if (!point) {
    log_.warning("there is no checkpoint to go back to: the step was skipped");
    return;
  }
  state_ = point->state;
  state_.sequences = taken;
  state_.spikes = spikes;
  checkpoints_->set_saved_step(state_.step);
  count_steps();
  spike_guard_.set_window(state_.spike_window);
  agree(*grid_.world, [&] {
    if (grid_.world->rank() == 0) metrics_.emplace(config_.output, state_.step);
  });
  if (events_) events_.emplace(config_.output, state_.step + 1);
  log_.notice(fmt::format("back from step {} to {}", from, point->path));
}

// Exchanges one vector of integers per step: whether any rank was signalled, whether rank 0's clock asks for a
// checkpoint or evaluation, and the bytes sent.
void Trainer::share_decisions(StepMetrics& record) {
  const bool main_rank = grid_.world->rank() == 0;
  std::vector<int64_t> sums{stop_requested(), main_rank && checkpoints_->due_by_clock(),
                            main_rank && evaluator_ && evaluator_->due_by_clock(), checkpoints_->is_written()};
  // The ranks of one sequence take the same batch, so only the first of them counts it.
  std::vector<int64_t> of_sources = loader().take_source_targets();
  if (grid_.cp_rank != 0 || grid_.tp_rank != 0) std::fill(of_sources.begin(), of_sources.end(), 0);
  const std::pair<const char*, const Communicator*> axes[] = {
      {"cp", grid_.cp.get()}, {"tp", grid_.tp.get()}, {"dp_cp", grid_.dp_cp.get()}};
  for (const auto& [name, axis] : axes) {
    const Traffic& traffic = axis->traffic();
    sums.push_back(traffic.total_bytes());
    sums.push_back(traffic.total_calls());
  }
  const size_t first_source = sums.size();
  sums.insert(sums.end(), of_sources.begin(), of_sources.end());
  const size_t first_rank = sums.size();
  sums.resize(first_rank + static_cast<size_t>(grid_.world->size()));
  sums[first_rank + static_cast<size_t>(grid_.world->rank())] = peak_memory_bytes();
  grid_.world->all_reduce(Tensor::of(sums, {static_cast<int64_t>(sums.size())}), Reduction::kSum);
  stop_requested_ = sums[0] > 0;
  checkpoints_->decide(sums[1] > 0, sums[3] == grid_.world->size());
  timed_evaluation_due_ = sums[2] > 0;
  for (size_t i = 0; i < std::size(axes); ++i)
    record.communication[axes[i].first] = {{"bytes", sums[4 + 2 * i]}, {"calls", sums[5 + 2 * i]}};
  if (corpus_.by_name)
    for (size_t i = 0; i < corpus_.sources.size(); ++i)
      record.tokens_by_source.emplace_back(corpus_.sources[i].name, sums[first_source + i]);
  const std::vector<int64_t> memory(sums.begin() + static_cast<std::ptrdiff_t>(first_rank), sums.end());
  record.peak_memory_bytes = *std::max_element(memory.begin(), memory.end());
  const auto grew = [&](size_t rank) {
    return memory[rank] > last_reported_memory_[rank] + last_reported_memory_[rank] / 100;
  };
  last_reported_memory_.resize(memory.size());
  for (size_t rank = 0; rank < memory.size() && record.memory_by_rank.empty(); ++rank)
    if (grew(rank)) record.memory_by_rank = last_reported_memory_ = memory;
  record.max_steps = max_steps_;
  if (!backend().unified()) {
    const DeviceMemory device = backend().memory();
    record.device_memory_bytes = grid_.world->max(device.total - device.free);
  }
}

void Trainer::look_for_slow_rank(StepMetrics& record, double own_seconds) {
  if (!backend().unified()) return;  // a device waits on its queue, not in calls
  record.slow_rank = slow_ranks_.add(*grid_.world, own_seconds);
  if (record.slow_rank)
    log_.warning(
        fmt::format("rank {} on {} takes {:.2f} times as long as the others for its own work in a step: look at "
                    "that machine",
                    record.slow_rank->rank, record.slow_rank->host, record.slow_rank->times));
}

void Trainer::finish_record(StepMetrics& record, double seconds) {
  record.seconds = seconds;
  record.tokens_per_second = seconds > 0 ? static_cast<double>(record.tokens) / seconds : 0;
  record.time = seconds_since_epoch();
  if (metrics_) metrics_->append(record);
  if (events_) events_->append(record.step, record.time, scalars_of(record));
  log_.step(record, max_steps_, config_.data.sequence_length);
}

// Stops a run whose ranks have drifted apart (a broken machine, a bug).
void Trainer::check_ranks_agree(const StepMetrics& record) {
  uint64_t fingerprint = 0;
  for (const uint64_t word : {static_cast<uint64_t>(record.step), std::bit_cast<uint64_t>(record.loss.value_or(0)),
                              std::bit_cast<uint64_t>(record.grad_norm.value_or(0)), std::bit_cast<uint64_t>(record.lr),
                              static_cast<uint64_t>(record.tokens_total)})
    fingerprint = (fingerprint ^ word) * 0x9E3779B97F4A7C15 + (fingerprint >> 29);
  int64_t ends[] = {static_cast<int64_t>(fingerprint >> 1), -static_cast<int64_t>(fingerprint >> 1)};
  grid_.world->all_reduce(Tensor(ends, DType::kInt64, {2}), Reduction::kMax);
  CHECK(ends[0] == -ends[1], "the ranks disagree about this step's loss, norm or position", record.step);
  for (const auto* axis : {&grid_.dp, &grid_.cp, &grid_.tp, &grid_.dp_cp, &grid_.kv_replicas})
    (*axis)->compare_histories();
}

bool Trainer::evaluation_is_due() const {
  return evaluator_ && (timed_evaluation_due_ || evaluator_->due(state_.step, state_.step == max_steps_));
}

void Trainer::evaluate() {
  const TraceSpan span("evaluation");
  const Activity activity("an evaluation");
  timed_evaluation_due_ = false;
  const auto stop = [this] { return stop_requested_ = anyone_signalled(); };
  state_.evaluation_due = !evaluator_->run(
      state_.step, stop, [this](const std::string& text) { log_.notice(text); },
      [this](const Json& record) {
        if (events_) events_->append(state_.step, seconds_since_epoch(), scalars_of(record));
      });
  if (!state_.evaluation_due) judge();
}

// Judges whether this evaluation is the best so far, and how long ago the last gain was.
void Trainer::judge() {
  if (!watched_) return;
  checkpoints_->finish_save();  // the checkpoint being saved may be the best so far
  const BestSoFar before = state_.best;
  const auto value = evaluator_->value(*watched_, state_.step);
  if (!value)
    log_.notice(fmt::format("the evaluation after step {} has no number for {}: it counts as no improvement",
                            state_.step, watched_->name()));
  if (!state_.best.judge(*watched_, value, state_.step, config_.train.early_stopping.min_delta)) return;
  log_.notice(fmt::format("the best {} so far: {:.6g}, after step {}", watched_->name(), *value, state_.step));
  checkpoints_->keep_as_best(before);
}

bool Trainer::is_out_of_patience() const {
  const auto& patience = config_.train.early_stopping.patience;
  return patience && state_.best.without_gain >= *patience;
}

}  // namespace carillon
