#include "launch/train/training_step.h"

#include <algorithm>
#include <cmath>

#include "launch/session/ranks.h"
#include "runtime/progress.h"
#include "runtime/rng.h"
#include "runtime/trace.h"

namespace carillon {
namespace {

BatchLoaderOptions batches_of(const RunConfig& config, const ModelRope& rope, const ProcessGrid& grid) {
  BatchLoaderOptions batches;
  batches.sequence_length = config.data.sequence_length;
  batches.micro_batch = config.train.micro_batch_size;
  batches.accumulation = config.train.gradient_accumulation_steps;
  batches.packing = config.data.packing;
  batches.positions = positions_of(config, rope);
  batches.shuffle = config.data.shuffle;
  batches.seed = static_cast<uint64_t>(config.train.seed);
  batches.dp_rank = grid.dp_rank;
  batches.dp_size = grid.shape.data;
  return batches;
}

// Refuses train.offload on a device whose memory is the host's: there is nothing to offload to.
Backend& checked(Backend& backend, const RunConfig& config) {
  if (config.train.offload != Offload::kNone && backend.unified())
    fail(ExitCode::kUsage,
         "runtime.device={} keeps everything in host memory already, in train.offload, leave it out or set none",
         backend.describe().name);
  return backend;
}

}  // namespace

PositionSettings positions_of(const RunConfig& config, const ModelRope& rope) {
  PositionSettings positions;
  positions.kind = config.data.positions;
  if (positions.kind == PositionKind::kConsecutive) return positions;
  positions.skip_probability = config.data.skip_probability.value_or(positions.skip_probability);
  if (positions.kind == PositionKind::kRandom) {
    const int64_t length = config.data.sequence_length, trained = rope.rope.original_max_position_embeddings;
    const double factor = std::floor(rope.rope.factor);
    const double reach = factor * static_cast<double>(std::min(length, trained));
    if (!(reach < 0x1p32))
      fail(ExitCode::kUsage, "positions would reach {:.6g} tokens, in rope.factor, give a smaller one", reach);
    if (reach <= static_cast<double>(length))
      fail(
          ExitCode::kUsage,
          "data.positions random spreads sequences of {} tokens over {:.0f} times the shorter of them and the original "
          "{}, which leaves nothing to skip, in the configuration, raise rope.factor",
          length, factor, trained);
    positions.stretch = static_cast<int64_t>(factor);
    positions.trained = trained;
    positions.length = static_cast<int64_t>(reach);
    return positions;
  }
  const char* const name = positions.kind == PositionKind::kPose ? "pose" : "skipalign";
  const double reach = rope.rope.factor * static_cast<double>(rope.rope.original_max_position_embeddings);
  if (!config.data.positions_length && !(reach < 0x1p32))
    fail(ExitCode::kUsage, "the rotation reaches {:.6g} tokens, in rope.factor, give data.positions_length", reach);
  positions.length = config.data.positions_length.value_or(static_cast<int64_t>(reach));
  if (positions.length <= config.data.sequence_length)
    fail(ExitCode::kUsage,
         "data.positions {} spreads sequences of {} tokens over {} positions ({}), which leaves nothing to skip, in "
         "the configuration, raise {} above data.sequence_length",
         name, config.data.sequence_length, positions.length,
         config.data.positions_length ? "data.positions_length" : "rope.factor times the original length",
         config.data.positions_length ? "it" : "rope.factor or data.positions_length");
  return positions;
}

NetworkOptions network_options_of(const RunConfig& config, const ModelRope& rope) {
  NetworkOptions options;
  options.compute = config.runtime.dtype;
  options.batch = config.train.micro_batch_size;
  options.sequence_length = config.data.sequence_length;
  options.positions = positions_of(config, rope).length;
  options.layout = config.parallel.layout;
  options.recompute = config.train.recompute;
  options.mlp_tile = config.train.mlp_tile.value_or(0);
  options.offload = config.train.offload;
  options.optimizer = {config.train.adamw};
  options.optimizer.zero = static_cast<int>(config.parallel.zero);
  options.dropout_seed = static_cast<uint64_t>(config.train.seed);
  return options;
}

Corpus open_training_data(Communicator& world, const RunConfig& config, const ModelConfig& model,
                          const Tokenizer* tokenizer, const Notice& say, const Notice& warn) {
  const Activity activity("reading data");
  std::optional<uint32_t> end_of_document;
  if (tokenizer != nullptr) end_of_document = tokenizer->eos();
  if (!end_of_document && !model.eos_token_id.empty())
    end_of_document = static_cast<uint32_t>(model.eos_token_id.front());
  if (tokenizer != nullptr && !end_of_document)
    warn("no end-of-document token is put after texts: none is named in " + tokenizer->end_search() + ", beside " +
         tokenizer->path() + ", nor in the model's configuration, name one in tokenizer_config.json");
  const auto chat = ChatTemplate::open(config.data.chat_template, tokenizer);
  Corpus corpus;
  corpus.end_of_document = end_of_document;
  corpus.by_weight = config.data.by_weight();
  corpus.by_name = config.data.by_name();
  for (const DataSource& source : config.data.train) {
    corpus.sources.push_back({source.name_or_path(), source.weight.value_or(1),
                              TokenStore::open(world, {source.path}, tokenizer, end_of_document, model.vocab_size,
                                               config.output, say, {chat.get(), config.data.train_on}, warn)});
    const TokenStore& tokens = corpus.sources.back().tokens;
    const std::string& name = corpus.sources.back().name;
    say(fmt::format("{}: {} documents, {} of {} tokens are trained", name, tokens.documents(), tokens.targets(),
                    tokens.token_count()));
    if (tokens.targets() == 0)
      warn(fmt::format("nothing of {} is trained: every token of its rows is masked or the first of its row", name));
  }
  if (config.train.loss == TrainingLoss::kLongCrossEntropy) {
    const auto longer = [&](const CorpusSource& source) {
      const auto begin = source.tokens.document_begin();
      return std::adjacent_find(begin.begin(), begin.end(), [&](int64_t from, int64_t to) {
               return to - from > config.train.long_loss.context + config.train.long_loss.stride;
             }) != begin.end();
    };
    if (std::none_of(corpus.sources.begin(), corpus.sources.end(), longer))
      warn(
          fmt::format("train.loss longce changes nothing: no document of data.train is longer than the {} tokens of "
                      "train.longce.context and stride together",
                      config.train.long_loss.context + config.train.long_loss.stride));
  }
  if (config.data.positions == PositionKind::kSkipAlign &&
      std::all_of(corpus.sources.begin(), corpus.sources.end(),
                  [](const CorpusSource& source) { return source.tokens.weights().empty(); }))
    fail(ExitCode::kUsage,
         "data.positions skipalign puts its skips where trained and untrained tokens meet, and every token of "
         "data.train is trained, in data.train, give loss_mask, conversations or prompts with completions, or use "
         "data.positions pose");
  if (corpus.has_conversations()) corpus.template_hash = fmt::format("{:016x}", chat->hash());
  return corpus;
}

TrainingStep::TrainingStep(Backend& backend, ProcessGrid& grid, const ModelConfig& model, const RunConfig& config,
                           const Corpus& corpus)
    : backend_(checked(backend, config)),
      grid_(grid),
      config_(config),
      loader_(corpus, batches_of(config, model, grid)),
      network_(backend, grid, model, network_options_of(config, model)),
      sharded_(network_.layout(), grid.cp_rank, config.train.micro_batch_size),
      model_(model),
      rotation_length_(std::max(config.data.sequence_length, network_.options().positions)) {
  if (config.train.loss == TrainingLoss::kLongCrossEntropy) long_loss_.emplace(network_, grid_, config.train.long_loss);
  // With skipped positions, dynamic and longrope depend on the position where they end.
  network_.transformer().set_rotation(model, rotation_length_);
}

// With random positions, draws the stretch for each step uniformly, from the smallest that fits a sequence up to the
// factor (2310.16450, section 3.3). The draw depends on the number of sequences taken before, so it is the same on
// every layout and after a resume.
void TrainingStep::follow_rotation(int64_t taken) {
  if (model_.rope.type != RopeType::kClex) return;
  int64_t length = rotation_length_;
  if (config_.data.positions == PositionKind::kRandom) {
    const int64_t trained = model_.rope.original_max_position_embeddings;
    const int64_t least = std::max<int64_t>(1, (config_.data.sequence_length + trained - 1) / trained);
    const int64_t most = std::max(least, static_cast<int64_t>(model_.rope.factor));
    const int64_t stretch =
        least + static_cast<int64_t>(random_below(static_cast<uint64_t>(most - least + 1),
                                                  static_cast<uint64_t>(config_.train.seed), stream_of("rope.factor"),
                                                  static_cast<uint64_t>(taken)));
    loader_.set_stretch(stretch);
    length = stretch * trained;
  }
  // The weights have changed since the last step.
  network_.transformer().set_rotation(model_, length);
}

void TrainingStep::start_fresh(OpenedModel& model, const Notice& notice) {
  Parameters& parameters = network_.parameters();
  const bool adapter = static_cast<bool>(model.config.adapter);
  const bool stored = model.source && (!adapter || model.source->adapter());
  // A model trained with another rotation starts with fresh weights of the learned one.
  if (model.source && parameters.ode_up)
    parameters.initialize(backend_, *grid_.tp, model.config.initializer_range,
                          static_cast<uint64_t>(config_.train.seed), Which::kRotation);
  if (model.source)
    load_weights(*grid_.world, backend_, *model.source, parameters, notice, stored ? Which::kAll : Which::kBase,
                 grid_.tp.get());
  if (!stored)
    parameters.initialize(backend_, *grid_.tp, model.config.initializer_range,
                          static_cast<uint64_t>(config_.train.seed), model.source ? Which::kTrained : Which::kAll);
  network_.optimizer().start_from_weights();
}

void TrainingStep::load_frozen(OpenedModel& model, const Notice& notice) {
  if (model.config.adapter)
    load_weights(*grid_.world, backend_, *model.source, network_.parameters(), notice, Which::kBase, grid_.tp.get());
}

StepSums TrainingStep::accumulate(int64_t taken) {
  follow_rotation(taken);
  const auto load = [&](int64_t micro) {
    const TraceSpan span("load batch");
    return loader_.get(taken, micro);
  };
  const auto batch = [&](int64_t micro) -> const MicroBatch& {
    const MicroBatch whole = load(micro);
    const MicroBatch& local = sharded_.shard(whole);
    if (!long_loss_) return local;
    const TraceSpan span("longce weights");
    return weighted_batch_ = long_loss_->weigh(whole, local);
  };
  StepSums sums = accumulate_gradients(network_, grid_, config_.train.gradient_accumulation_steps, batch);
  if (long_loss_) {
    const LongLoss::Sums own = long_loss_->take_sums();
    double numbers[] = {own.cross_entropy, own.weight};
    grid_.dp_cp->all_reduce(Tensor(numbers, DType::kFloat64, {2}), Reduction::kSum);
    sums.cross_entropy = numbers[0], sums.emphasis = numbers[1];
  }
  return sums;
}

}  // namespace carillon
