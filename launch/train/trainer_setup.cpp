// The trainer's construction: folder, model, data, network, checkpoint. The order puts cheap checks first.
#include <filesystem>
#include <fstream>

#include "data/checkpoint/leftovers.h"
#include "data/files/output_check.h"
#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "launch/session/run_checks.h"
#include "launch/train/run_tokenizer.h"
#include "launch/train/trainer.h"
#include "parallel/transport/device_communicator.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// A configuration that begins so was written by a run: the next one may replace it.
constexpr std::string_view kResolved = "# Every setting of the run, as carillon train wrote it.\n";

bool is_resolved(const std::string& path) {
  std::string begin(kResolved.size(), '\0');
  return std::ifstream(path, std::ios::binary).read(begin.data(), static_cast<std::streamsize>(begin.size())) &&
         begin == kResolved;
}

// The file that names every setting, defaults included; `carillon train` of it repeats the run.
void write_resolved(const RunConfig& config) {
  OutputFile file(config.output + "/config.yaml");
  file.write(kResolved);
  file.write(resolved_yaml(config));
  file.commit();
}

// Makes the run's folder durable in its parent. If the parent cannot be opened nothing can be done, and data is lost
// only if the machine fails within the next seconds.
void make_durable(const std::string& folder) {
  try {
    const fs::path parent = fs::path(folder).lexically_normal().parent_path();
    sync_path(parent.empty() ? "." : parent.string());
  } catch (const Error&) {
  }
}

// Removes temporary files that a killed run left (output_file.h).
void remove_temporaries(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_regular_file(ignored) && entry->path().filename().string().find(".tmp-") != std::string::npos)
      fs::remove(entry->path(), ignored);
  }
}

// "sm_90, attention by cuDNN 9.19.0 forward …" if attention is not the device's own.
std::string describe_device(const Backend& backend) {
  const DeviceDescription device = backend.describe();
  return device.instruction_set + (device.attention.empty() ? "" : ", attention by " + device.attention);
}

// ", 4884480 of them in adapters and trained, the layers beside them in nf4".
std::string describe_adapter(const ModelConfig& config) {
  if (!config.adapter) return "";
  const Quantization kind = config.adapter.base_quantization;
  return fmt::format(", {} of them in adapters and trained{}", adapter_parameters(config),
                     kind == Quantization::kNone ? "" : fmt::format(", the layers beside them in {}", name_of(kind)));
}

// ", ranks joined by NCCL 2.28.9" if a device's tensors are sent.
std::string describe_transport(const ProcessGrid& grid) {
  for (const Communicator* axis : {grid.cp.get(), grid.tp.get(), grid.dp_cp.get()})
    if (const DeviceTransport* transport = device_transport_of(*axis))
      return ", ranks joined by " + transport->describe();
  return "";
}

}  // namespace

Trainer::Trainer(std::unique_ptr<Communicator> world, RunConfig config, bool quiet)
    : config_(std::move(config)),
      log_(config_.output, world->rank() == 0, quiet),
      session_(std::move(world), config_.parallel, config_.runtime,
               [this](const std::string& text) { log_.warning(text); }),
      spike_guard_(config_.train.spike) {
  check_outputs();
  lock_run_folder();
  open_model_and_data();
  make_network();
  start_or_resume();
  open_run_folder();
  log_.notice(describe_run());
  if (world_->rank() != 0) return;
  const int64_t length = std::max(config_.data.sequence_length, network().options().positions);
  if (const auto warning = base_bound_warning(model_.config, length)) log_.warning(*warning);
  if (schedule_.warmup_steps > max_steps_)
    log_.warning(
        fmt::format("the warm-up of {} steps is longer than the {} steps of the run: train.learning_rate is "
                    "never reached",
                    schedule_.warmup_steps, max_steps_));
}

// What the run would replace is its own, or was meant to be.
void Trainer::check_outputs() {
  agree(*world_, [&] {
    if (world_->rank() != 0) return;
    std::error_code error;
    const fs::path folder = config_.output;
    check_result_folder(
        {.path = config_.output,
         .names = {"config.yaml", "report.html"},
         .others = {"config.json", "manifest.json", "claims"},
         .known = is_resolved((folder / "config.yaml").string()) || fs::exists(folder / "metrics.jsonl", error) ||
                  fs::is_directory(checkpoints_folder(config_), error)},
        {config_.read_from}, config_.overwrite);
    if (config_.runtime.trace)
      check_output(*config_.runtime.trace, {config_.read_from}, OutputKind::kTrace, config_.overwrite);
  });
  config_.overwrite = false;  // said of this start, not of those that go on with the folder
}

void Trainer::lock_run_folder() {
  agree(*world_, [&] {
    if (world_->rank() == 0)
      lock_ = std::make_unique<RunLock>(config_.output, [this](const std::string& text) { log_.notice(text); });
  });
}

void Trainer::open_model_and_data() {
  // Cheap checks first, before anything is read that could take long.
  require_layout(config_, world_->size());
  if (config_.checkpoint.best_metric || config_.train.early_stopping.patience)
    watched_.emplace(config_.checkpoint.best_metric.value_or("validation.loss"), config_, training_sweep(config_));
  if (config_.adapter.on() && !config_.model.base)
    fail(ExitCode::kUsage,
         "adapter.type lora trains beside a base model, in the configuration, name that in model.base");
  resume_points_ = find_resume_points(*world_, config_, session_.notice());
  session_.open_model(config_);
  require_same_base(resume_points_, model_);
  agree(*world_, [&] {
    for (const std::string& text : base_changes(resume_points_, config_, model_)) session_.notice()(text);
  });
  require_tensor_parallel(model_.config, config_.parallel.tensor);
  session_.start_device(/*trains=*/true);
  session_.open_tokenizer(config_.data.tokenizer.value_or(""));
  agree(*world_, [&] {
    if (world_->rank() == 0) tokenizer_files_ = read_tokenizer_files(config_, model_.source.get());
  });
  corpus_ = open_training_data(
      *world_, config_, model_.config, session_.tokenizer(), [this](const std::string& text) { log_.notice(text); },
      session_.notice());
}

void Trainer::make_network() {
  session_.make_grid();
  agree(*grid_.world,
        [&] { training_ = std::make_unique<TrainingStep>(backend(), grid_, model_.config, config_, corpus_); });
  if (evaluates(config_.eval))
    agree(*grid_.world, [&] {
      evaluator_ = std::make_unique<TrainingEvaluator>(backend(), grid_, model_.config, config_, network().parameters(),
                                                       session_.tokenizer());
    });
  if (evaluator_ && world_->rank() == 0)
    for (const std::string& text : evaluator_->foreseen_failures()) log_.warning(text);
}

void Trainer::start_or_resume() {
  if (!resume_points_.empty()) training_->load_frozen(model_, session_.notice());
  const auto resumed = load_resume_point(grid_, resume_points_, network(), session_.notice());
  int64_t saved_step = -1;
  if (resumed) {
    state_ = resumed->state;
    spike_guard_.set_window(state_.spike_window);
    saved_step = state_.step;
    if (watched_ && state_.best.metric != watched_->name()) state_.best = {};  // another metric, or none, was watched
    log_.notice(fmt::format("resuming from {}", resumed->path));
    const auto changes = data_changes(resumed->manifest, corpus_.files(), session_.tokenizer(), corpus_.template_hash,
                                      corpus_.end_of_document);
    if (!changes.empty())
      log_.warning(fmt::format("the data changed since {}: {}; the run goes on after sequence {} of what there is now",
                               resumed->path, fmt::join(changes, "; "), state_.sequences));
    std::error_code error;
    const std::string records = config_.output + "/metrics.jsonl";
    if (state_.step > 0 && fs::path(resumed->path).parent_path() == fs::path(checkpoints_folder(config_)) &&
        !fs::exists(records, error))
      log_.warning(
          fmt::format("the records of the {} steps so far are missing, {}, put the file back before the next "
                      "start, or go on without",
                      state_.step, records));
  } else {
    training_->start_fresh(model_, session_.notice());
  }
  model_.source.reset();
  count_steps();
  checkpoints_.emplace(config_, grid_, state_, log_, checkpoint_contents(), saved_step);
}

CheckpointContents Trainer::checkpoint_contents() {
  return {[this] { return checkpoint_shards(network(), grid_); },
          [this] {
            state_.spike_window = spike_guard_.window();
            return make_manifest(config_, model_, grid_, state_, corpus_.files(), session_.tokenizer(),
                                 corpus_.template_hash, corpus_.end_of_document);
          },
          [this] {
            if (lock_) lock_->require_folder();
            if (metrics_) metrics_->sync();
          }};
}

// Determines the number of steps and the learning-rate schedule.
void Trainer::count_steps() {
  max_steps_ = total_steps(config_.train, state_, loader().sequences(), loader().block());
  schedule_ = {config_.train.lr_scheduler, max_steps_, config_.train.warmup(max_steps_), config_.train.min_lr_ratio,
               config_.train.decay_ratio};
}

// Writes into the folder for the first time, after every check that can refuse a start.
void Trainer::open_run_folder() {
  agree(*grid_.world, [&] {
    if (grid_.world->rank() != 0) return;
    require_records(config_.output, state_.step);
    remove_temporaries(config_.output);
    std::error_code error;
    const bool is_new = fs::create_directories(checkpoints_folder(config_), error);
    if (error)
      fail_to_create("the run's folder cannot be created", error.value(), config_.output, "name another output");
    if (is_new) make_durable(config_.output);
    write_resolved(config_);  // behind the folder by which the next start knows this file as the run's
    remove_checkpoint_leftovers(checkpoints_folder(config_));
    keep_tokenizer_files(config_.output, tokenizer_files_);
    fs::remove(config_.output + "/ended", error);
    log_.open_file();
    metrics_.emplace(config_.output, state_.step);
    if (config_.runtime.tensorboard) events_.emplace(config_.output, state_.step + 1);
  });
}

std::string Trainer::describe_run() const {
  const GridShape& shape = grid_.shape;
  return fmt::format(
      "{} parameters{}, {}, {} tokens per sequence{}; {} (data {}, context {}{}, tensor {}), ZeRO {}, {} on {}; "
      "{}; {:.1f} MiB per rank: {}{}",
      model_.config.parameter_count(), describe_adapter(model_.config),
      describe(model_.config.rope) + (model_.config.rope.resonance ? "" : " rope"), config_.data.sequence_length,
      network().options().positions > 0 ? fmt::format(" at positions below {}", network().options().positions) : "",
      shape.size() == 1 ? "1 rank" : fmt::format("{} ranks", shape.size()), shape.data, shape.context,
      shape.context == 1 ? "" : " in a " + describe_ring(shape), shape.tensor, config_.parallel.zero,
      name_of(config_.runtime.dtype), describe_device(backend()) + describe_transport(grid_), loader().describe(),
      static_cast<double>(network().bytes()) / (1 << 20), network().memory_summary(),
      network().host_bytes() == 0 ? ""
                                  : fmt::format("; {:.1f} MiB per rank in host memory",
                                                static_cast<double>(network().host_bytes()) / (1 << 20)));
}

}  // namespace carillon
