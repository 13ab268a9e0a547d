#include "launch/train/trainer.h"

#include <sys/resource.h>

#include <bit>
#include <cmath>

#include "data/files/output_file.h"
#include "launch/report/report.h"

namespace carillon {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

// Five in a row: neither data nor a passing overflow, the run has diverged.
constexpr int64_t kNonfiniteStepsAllowed = 5;

}  // namespace

ExitCode Trainer::run() {
  last_save_ = Clock::now();
  RunTrace trace(*grid_.world, config_.runtime.trace, config_.runtime.profile);
  while (state_.step < max_steps_ && !stop_requested_) {
    train_step();
    trace.flush();
    // Before the checkpoint of the same step: whoever resumes from that finds the evaluation done.
    if (evaluation_is_due() && !stop_requested_) evaluate();
    if (save_is_due() && !stop_requested_ && state_.step < max_steps_) save(false);
  }
  if (saved_step_ != state_.step) save(true);
  log_.finish();
  for (const std::string& line : trace.finish(*grid_.world)) log_.notice(line);
  if (!stop_requested_) {
    finish_folder();
    return ExitCode::kDone;
  }
  log_.notice(fmt::format("stopped by a signal after step {}; the same command goes on from there", state_.step));
  return ExitCode::kStopped;
}

// The page, and for `sweep watch=true` the word that no more checkpoints will come. The run's work stands already: what
// goes wrong here is said, and costs the page only.
void Trainer::finish_folder() {
  if (grid_.world->rank() != 0) return;
  try {
    write_whole_file(config_.output + "/ended", fmt::format("{}\n", state_.step));
    write_whole_file(config_.output + "/report.html", report_html(read_results(config_.output)));
  } catch (const Error& error) {
    log_.warning(fmt::format("the run is complete, but its page is not: {}", error.what()));
  }
}

void Trainer::train_step() {
  const Clock::time_point begin = Clock::now();
  for (Communicator* axis : {grid_.dp.get(), grid_.cp.get(), grid_.tp.get(), grid_.dp_cp.get()}) axis->reset_traffic();
  StepRecord record;
  record.lr = schedule_.factor(state_.step) * config_.train.learning_rate;
  const TrainingStep::Sums sums = training_->accumulate(state_.sequences);
  if (sums.weight > 0) {
    const double loss = sums.loss / sums.weight;
    bool updated = false;
    if (std::isfinite(loss)) {
      record.loss = loss;
      const auto outcome = network().optimizer().step(sums.weight, record.lr, config_.train.adam_beta1);
      if (std::isfinite(outcome.gradient_norm)) record.grad_norm = outcome.gradient_norm;
      updated = outcome.updated;
    }
    state_.nonfinite_steps = updated ? 0 : state_.nonfinite_steps + 1;
  }
  state_.step += 1;
  state_.sequences += loader().block();
  state_.tokens_total += sums.targets;
  state_.updates = network().optimizer().updates();
  record.step = state_.step;
  record.tokens = sums.targets;
  record.tokens_total = state_.tokens_total;
  share_decisions(record);
  finish_record(record, seconds_since(begin));
  check_ranks_agree(record);
  if (state_.nonfinite_steps >= kNonfiniteStepsAllowed)
    fail(ExitCode::kNumeric,
         "loss or gradient norm was not finite in {} steps in a row, {}, lower train.learning_rate or resume from an "
         "older "
         "checkpoint",
         kNonfiniteStepsAllowed, config_.output + "/metrics.jsonl");
}

// One exchange of whole numbers a step: who was signalled, whether rank 0's clock asks for a checkpoint, what went over
// the wire.
void Trainer::share_decisions(StepRecord& record) {
  const bool timed = config_.checkpoint.every && seconds_since(last_save_) >= *config_.checkpoint.every;
  const bool main_rank = grid_.world->rank() == 0;
  std::vector<int64_t> sums{signals_.requested(), main_rank && timed,
                            main_rank && evaluator_ && evaluator_->due_by_clock()};
  const std::pair<const char*, const Communicator*> axes[] = {
      {"cp", grid_.cp.get()}, {"tp", grid_.tp.get()}, {"dp_cp", grid_.dp_cp.get()}};
  for (const auto& [name, axis] : axes) {
    const Traffic& traffic = axis->traffic();
    sums.push_back(traffic.total_bytes());
    sums.push_back(traffic.total_calls());
  }
  grid_.world->all_reduce(Tensor::of(sums, {static_cast<int64_t>(sums.size())}), Reduction::kSum);
  stop_requested_ = sums[0] > 0;
  timed_save_due_ = sums[1] > 0;
  timed_evaluation_due_ = sums[2] > 0;
  for (size_t i = 0; i < std::size(axes); ++i)
    record.communication[axes[i].first] = {{"bytes", sums[3 + 2 * i]}, {"calls", sums[4 + 2 * i]}};
  record.peak_memory_bytes = grid_.world->max(peak_memory_bytes());
  if (!backend_->unified()) {
    const DeviceMemory memory = backend_->memory();
    record.device_memory_bytes = grid_.world->max(memory.total - memory.free);
  }
}

void Trainer::finish_record(StepRecord& record, double seconds) {
  record.seconds = seconds;
  record.tokens_per_second = seconds > 0 ? static_cast<double>(record.tokens) / seconds : 0;
  record.time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  if (metrics_) metrics_->append(record);
  log_.step(record, max_steps_, config_.data.sequence_length);
}

// Ranks that have drifted apart (a broken machine, a bug) must not go on as if nothing had happened.
void Trainer::check_ranks_agree(const StepRecord& record) {
  uint64_t fingerprint = 0;
  for (const uint64_t word : {static_cast<uint64_t>(record.step), std::bit_cast<uint64_t>(record.loss.value_or(0)),
                              std::bit_cast<uint64_t>(record.grad_norm.value_or(0)), std::bit_cast<uint64_t>(record.lr),
                              static_cast<uint64_t>(record.tokens_total)})
    fingerprint = (fingerprint ^ word) * 0x9E3779B97F4A7C15 + (fingerprint >> 29);
  int64_t ends[] = {static_cast<int64_t>(fingerprint >> 1), -static_cast<int64_t>(fingerprint >> 1)};
  grid_.world->all_reduce(Tensor(ends, DType::kInt64, {2}), Reduction::kMax);
  CHECK(ends[0] == -ends[1], "the ranks disagree about this step's loss, norm or position", record.step);
}

bool Trainer::evaluation_is_due() const {
  return evaluator_ && (timed_evaluation_due_ || evaluator_->due(state_.step, state_.step == max_steps_));
}

void Trainer::evaluate() {
  const TraceSpan span("evaluation");
  timed_evaluation_due_ = false;
  const auto stop = [this] {
    stop_requested_ = grid_.world->max(int64_t{signals_.requested()}) > 0;
    return stop_requested_;
  };
  evaluator_->run(state_.step, stop, [this](const std::string& text) { log_.notice(text); });
}

bool Trainer::save_is_due() const {
  const auto& every = config_.checkpoint.every_steps;
  return timed_save_due_ || (every && state_.step % *every == 0);
}

void Trainer::save(bool must_succeed) {
  const TraceSpan span("checkpoint");
  const Clock::time_point begin = Clock::now();
  // Records are as durable as the checkpoint that says they were written.
  agree(*grid_.world, [&] {
    if (metrics_) metrics_->sync();
  });
  const Manifest manifest = make_manifest(config_, model_.config, grid_, state_, store_->sources(), tokenizer_.get());
  const SaveResult result = save_checkpoint(*grid_.world, checkpoints_folder(config_), manifest,
                                            checkpoint_shards(network(), grid_), config_.checkpoint.keep);
  last_save_ = Clock::now();
  timed_save_due_ = false;
  if (result.saved) {
    saved_step_ = state_.step;
    log_.notice(fmt::format("checkpoint {} in {:.1f} s", result.path, seconds_since(begin)));
    if (!result.trouble.empty()) log_.warning(result.trouble);
  } else if (must_succeed) {
    fail(ExitCode::kInputOutput, "no space for the checkpoint of step {} ({}), {}, make room and start again",
         state_.step, result.why_not, checkpoints_folder(config_));
  } else {
    log_.warning(
        fmt::format("checkpoint of step {} skipped, tried again at the next: {}", state_.step, result.why_not));
  }
}

}  // namespace carillon
