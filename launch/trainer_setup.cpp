// The trainer's construction: folder, model, data, network, checkpoint, in that order, so that what is cheap to find
// wrong is found first.
#include <sys/stat.h>

#include <cmath>
#include <filesystem>

#include "data/output_file.h"
#include "launch/ranks.h"
#include "launch/trainer.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// The file that names every setting, defaults included; `carillon train` of it repeats the run.
void write_resolved(const RunConfig& config) {
  OutputFile file(config.output + "/config.yaml");
  file.write(resolved_yaml(config));
  file.commit();
}

std::vector<std::string> paths_of(const std::vector<DataSource>& sources) {
  std::vector<std::string> paths;
  for (const DataSource& source : sources) paths.push_back(source.path);
  return paths;
}

}  // namespace

Trainer::Trainer(std::unique_ptr<Communicator> world, RunConfig config, bool quiet)
    : config_(std::move(config)), world_(std::move(world)), log_(config_.output, world_->rank() == 0, quiet) {
  open_model_and_data();
  open_run_folder();
  make_network();
  start_or_resume();
  log_.notice(describe_run());
}

void Trainer::open_model_and_data() {
  const Notice notice = [this](const std::string& text) { log_.warning(text); };
  if (evaluates(config_.eval)) (void)training_sweep(config_);
  // Cheap and telling: before anything is read that could take long.
  (void)grid_shape(config_.parallel, world_->size());
  SequenceLayout(config_.parallel.layout, config_.data.sequence_length, static_cast<int>(config_.parallel.context),
                 static_cast<int>(config_.parallel.tensor));
  resume_points_ = find_resume_points(*world_, config_, notice);
  if (config_.model.base) {
    model_ = open_model(*world_, *config_.model.base, config_.rope.settings, notice);
  } else {
    model_.config = parse_model_config(config_.model.config_json(), "the configuration's model:", ExitCode::kUsage);
    model_.config.rope = merge_rope_config(model_.config.rope, config_.rope.settings, "rope");
  }
  require_tensor_parallel(model_.config, config_.parallel.tensor);
  backend_ = make_backend(config_.runtime, notice);
  tokenizer_ = open_tokenizer(*world_, config_.data.tokenizer.value_or(""), model_.source.get());
  std::optional<uint32_t> end_of_document;
  if (tokenizer_) end_of_document = tokenizer_->eos();
  if (!end_of_document && !model_.config.eos_token_id.empty())
    end_of_document = static_cast<uint32_t>(model_.config.eos_token_id.front());
  store_ = TokenStore::open(*world_, paths_of(config_.data.train), tokenizer_.get(), end_of_document,
                            model_.config.vocab_size, config_.output, notice);
}

void Trainer::open_run_folder() {
  agree(*world_, [&] {
    if (world_->rank() != 0) return;
    std::error_code error;
    fs::create_directories(checkpoints_folder(config_), error);
    if (error)
      fail(ExitCode::kCannotCreate, "the run's folder cannot be created ({}), {}, name another output", error.message(),
           config_.output);
    fs::remove(config_.output + "/ended", error);
    write_resolved(config_);
    log_.open_file();
  });
}

void Trainer::make_network() {
  grid_ = make_grid(std::move(world_), config_.parallel, model_.config);
  BatchLoaderOptions batches;
  batches.sequence_length = config_.data.sequence_length;
  batches.micro_batch = config_.train.micro_batch_size;
  batches.accumulation = config_.train.gradient_accumulation_steps;
  batches.packing = config_.data.packing;
  batches.shuffle = config_.data.shuffle;
  batches.seed = static_cast<uint64_t>(config_.train.seed);
  batches.dp_rank = grid_.dp_rank;
  batches.dp_size = grid_.shape.data;
  loader_.emplace(*store_, batches);
  max_steps_ = config_.train.max_steps
                   ? *config_.train.max_steps
                   : static_cast<int64_t>(std::ceil(*config_.train.epochs * static_cast<double>(loader_->sequences()) /
                                                    static_cast<double>(loader_->block())));
  schedule_ = {config_.train.lr_scheduler, max_steps_, config_.train.warmup(max_steps_), config_.train.min_lr_ratio,
               config_.train.decay_ratio};

  NetworkOptions options;
  options.compute = config_.runtime.dtype;
  options.batch = config_.train.micro_batch_size;
  options.sequence_length = config_.data.sequence_length;
  options.layout = config_.parallel.layout;
  options.recompute = config_.train.recompute;
  options.optimizer.zero = static_cast<int>(config_.parallel.zero);
  options.optimizer.beta1 = config_.train.adam_beta1;
  options.optimizer.beta2 = config_.train.adam_beta2;
  options.optimizer.epsilon = config_.train.adam_epsilon;
  options.optimizer.weight_decay = config_.train.weight_decay;
  options.optimizer.max_grad_norm = config_.train.max_grad_norm.value_or(0);
  agree(*grid_.world, [&] { network_ = std::make_unique<Network>(*backend_, grid_, model_.config, options); });
  if (evaluates(config_.eval))
    agree(*grid_.world, [&] {
      evaluator_ = std::make_unique<TrainingEvaluator>(*backend_, grid_, model_.config, config_, network_->parameters(),
                                                       tokenizer_.get());
    });
  sharded_ = std::make_unique<ShardedBatch>(network_->layout(), grid_.cp_rank, options.batch);
  network_->transformer().set_rotation(
      make_rope_table(model_.config.rope, model_.config.head_dim, config_.data.sequence_length));
}

void Trainer::start_or_resume() {
  const Notice notice = [this](const std::string& text) { log_.warning(text); };
  const auto resumed = load_resume_point(grid_, resume_points_, *network_, notice);
  if (resumed) {
    state_ = resumed->state;
    saved_step_ = state_.step;
    log_.notice(fmt::format("resuming from {}", resumed->path));
  } else {
    if (model_.source)
      load_weights(*grid_.world, *model_.source, network_->parameters(), notice);
    else
      network_->parameters().initialize(*backend_, model_.config.initializer_range,
                                        static_cast<uint64_t>(config_.train.seed));
    network_->optimizer().start_from_weights();
    saved_step_ = -1;
  }
  model_.source.reset();
  agree(*grid_.world, [&] {
    if (grid_.world->rank() == 0) metrics_.emplace(config_.output, state_.step);
  });
}

std::string Trainer::describe_run() const {
  const GridShape& shape = grid_.shape;
  return fmt::format(
      "{} parameters, {}, {} tokens a sequence; {} ranks (data {}, context {}, tensor {}), ZeRO {}, {} on {}; {}; "
      "{:.1f} MiB a rank: {}",
      model_.config.parameter_count(),
      model_.config.rope.resonance ? "resonance " + name_of(model_.config.rope.type)
                                   : name_of(model_.config.rope.type) + " rope",
      config_.data.sequence_length, shape.size(), shape.data, shape.context, shape.tensor, config_.parallel.zero,
      name_of(config_.runtime.dtype), backend_->describe().instruction_set, describe(loader_->packing()),
      static_cast<double>(network_->bytes()) / (1 << 20), network_->memory_summary());
}

}  // namespace carillon
