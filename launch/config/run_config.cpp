#include "launch/config/run_config.h"

#include <cmath>
#include <utility>

#include "runtime/check.h"
#include "runtime/text.h"

namespace carillon {
namespace {

// Bounds of single numbers, so that their products fit 63 bits; what they make together is checked with the model
// (require_possible_sizes in launch/session/run_checks.h).
constexpr double kMostSequences = 1 << 20;
constexpr double kMostTokens = 4294967296.0;  // 2^32

}  // namespace

int64_t TrainSection::warmup(int64_t steps) const {
  return warmup_ratio ? static_cast<int64_t>(std::ceil(*warmup_ratio * static_cast<double>(steps))) : warmup_steps;
}

void declare_chat(Schema& schema, const std::string& prefix, std::optional<std::string>& chat_template,
                  TrainOn& train_on) {
  schema
      .text(prefix + "chat_template", chat_template,
            "A Jinja template for rows of messages: a file, or the built-in qwen3 (Qwen3's, with the assistant's turns "
            "marked).")
      .default_is("the tokenizer's");
  schema.choice(
      prefix + "train_on", train_on,
      {{"assistant", TrainOn::kAssistant}, {"last_assistant", TrainOn::kLastAssistant}, {"all", TrainOn::kAll}},
      "Which tokens of rows of messages are targets: the assistant's turns (of prompt and completion the "
      "completion), the last of them, or all tokens.");
}

namespace {

// One entry of a list of sources; mixes: whether it may have weight and name.
DataSource read_source(const std::string& list, const YamlNode& item, bool mixes) {
  const bool mapping = item.kind == YamlNode::Kind::kMapping;
  for (const YamlNode& key : item.keys) {
    if (key.text == "path" || (mixes && (key.text == "weight" || key.text == "name"))) continue;
    fail(ExitCode::kUsage, "unknown key '{}' in {}, {}, did you mean {}?", printable(key.text), list, key.where,
         mixes ? nearest(key.text, {"path", "weight", "name"}) : "path");
  }
  const YamlNode* path = mapping ? item.find("path") : nullptr;
  if (path == nullptr || path->kind != YamlNode::Kind::kScalar || path->text.empty())
    fail(ExitCode::kUsage, "an entry of {} has no path, {}, write {{path: FILE}}", list, item.where);
  DataSource source{path->text, std::nullopt, std::nullopt};
  if (const YamlNode* weight = item.find("weight")) {
    Key key;
    key.name = list + ".weight";
    key.type = "number";
    key.above(0);
    source.weight = detail::read_number(key, *weight);
  }
  if (const YamlNode* name = item.find("name")) {
    Key key;
    key.name = list + ".name";
    key.type = "text";
    source.name = detail::read_text(key, *name);
  }
  return source;
}

}  // namespace

void declare_data(Schema& schema, DataSection& data) {
  schema.section("data", "What it learns from. Relative paths start at the working directory.");
  const auto sources = [&schema](const char* name, std::vector<DataSource>& target, bool mixes,
                                 const char* help) -> Key& {
    const std::string key_name = name;
    const auto set = [&target, key_name, mixes](const YamlNode& node) {
      if (node.kind != YamlNode::Kind::kSequence) {
        fail(ExitCode::kUsage, "{} cannot be {}, {}, it takes a list such as [{{path: train.jsonl}}]", key_name,
             node.describe(), node.where);
      }
      std::vector<DataSource> read;
      for (const YamlNode& item : node.items) read.push_back(read_source(key_name, item, mixes));
      target = std::move(read);
    };
    const auto get = [&target]() -> std::optional<Json> {
      if (target.empty()) return std::nullopt;
      Json list = Json::array();
      for (const DataSource& source : target) {
        list.push_back({{"path", source.path}});
        if (source.weight) list.back()["weight"] = *source.weight;
        if (source.name) list.back()["name"] = *source.name;
      }
      return list;
    };
    return schema.custom(key_name, mixes ? "list of {path: FILE, weight: W, name: N}" : "list of {path: FILE}", help,
                         set, get);
  };
  sources(
      "data.train", data.train, /*mixes=*/true,
      "Files, folders or patterns (`parts/*.jsonl.zst`) in the order they are read: .jsonl with `tokens` (and "
      "`loss_mask`: weights of the targets, or `labels`: -100 is none) or `text` or `messages` on each line, .txt "
      "(one document), both also .gz or .zst; .h5 (from `carillon tokenize`). With any `weight`, sequences are "
      "drawn from the entries in proportion to their weights (1 where none is given), each starting again when used "
      "up; `name` is what records and the log call an entry.")
      .default_is("required")
      .aliases({"dataset", "train_file", "data_path", "train_data"});
  sources("data.validation", data.validation, /*mixes=*/false,
          "The same, held out; evaluations read it when a task names no data.")
      .aliases({"val_data", "validation_file", "eval_data"});
  schema.text("data.tokenizer", data.tokenizer, "Folder or tokenizer.json; needed for text only.")
      .default_is("the base model's")
      .aliases({"tokenizer_path", "tokenizer_name"});
  declare_chat(schema, "data.", data.chat_template, data.train_on);
  schema
      .integer("data.sequence_length", data.sequence_length,
               "Tokens a sequence; at least 2·parallel.context. A longer document is cut into pieces of this length, "
               "none is dropped. Memory and the attention's share of the time grow with it.")
      .at_least(2)
      .at_most(kMostTokens)
      .default_is("required")
      .aliases({"max_seq_len", "max_seq_length", "seq_length", "seq_len", "block_size", "context_length", "max_length",
                "cutoff_len"});
  schema
      .choice(
          "data.packing", data.packing,
          {{"false", PackingMode::kNone},
           {"true", PackingMode::kWhole},
           {"best_fit", PackingMode::kBestFit},
           {"split", PackingMode::kSplit}},
          "Several documents in one sequence, none seeing another. false: one a sequence, padded. true: whole ones "
          "in file order. best_fit: whole ones, reordered within a window, less padding. split: end to end and cut, "
          "nothing padded.")
      .aliases({"sample_packing", "pack", "pack_sequences"});
  schema
      .choice("data.positions", data.positions,
              {{"consecutive", PositionKind::kConsecutive},
               {"pose", PositionKind::kPose},
               {"skipalign", PositionKind::kSkipAlign}},
              "Positions with skips show a model the distances of long documents on short ones, at the cost of short "
              "ones. pose (2309.10400): the second part of each document is moved by a random number. skipalign "
              "(2405.03939): what follows a change between trained and untrained tokens is.")
      .aliases({"position_skipping", "pose", "skip_positions"});
  schema
      .integer("data.positions_length", data.positions_length,
               "pose and skipalign: positions are below this. The table of the rotation is as long.")
      .at_least(2)
      .at_most(kMostTokens)
      .default_is("rope.factor times the original length")
      .aliases({"target_length", "target_context", "skip_target"});
  schema
      .number("data.skip_probability", data.skip_probability,
              "skipalign: how likely a change between trained and untrained tokens is followed by a skip.")
      .above(0)
      .at_most(1)
      .default_is("0.5")
      .aliases({"skip_prob"});
  schema
      .boolean("data.shuffle", data.shuffle,
               "A new order of the packed sequences each epoch, the same on every layout. false: file order, wrapping "
               "at the end.")
      .aliases({"shuffle_data"});
}

void declare_train(Schema& schema, TrainSection& train) {
  schema.section("train",
                 "How the weights move. A step is micro_batch_size · data · gradient_accumulation_steps "
                 "sequences; its loss is the mean over all their target tokens.");
  schema.integer("train.max_steps", train.max_steps, "Steps of the whole run; this or train.epochs.")
      .at_least(1)
      .at_most(static_cast<double>(kMostSteps))
      .may_change()
      .aliases({"num_steps", "steps", "total_steps", "max_iters", "train_iters", "iterations"});
  schema.number("train.epochs", train.epochs, "Passes over the data instead: ceil(epochs · sequences / step) steps.")
      .above(0)
      .aliases({"num_epochs", "num_train_epochs", "max_epochs"});
  schema
      .integer("train.micro_batch_size", train.micro_batch_size,
               "Sequences at a time on each data-parallel rank. Activation memory grows with it.")
      .at_least(1)
      .at_most(kMostSequences)
      .aliases({"batch_size", "per_device_train_batch_size", "train_micro_batch_size_per_gpu", "device_batch_size"});
  schema
      .integer("train.gradient_accumulation_steps", train.gradient_accumulation_steps,
               "Micro-batches a step: a larger batch for time instead of memory.")
      .at_least(1)
      .at_most(kMostSequences)
      .aliases({"accumulation_steps", "grad_accum", "accumulate_grad_batches", "gradient_accumulation", "accum_iter"});
  schema.choice("train.optimizer", train.optimizer, {{"adamw", "adamw"}}, "Decoupled decay, as PyTorch's AdamW.")
      .aliases({"optim", "optimizer_type"});
  schema.number("train.learning_rate", train.learning_rate, "Its peak, before the schedule's factor.")
      .at_least(0)
      .aliases({"lr", "max_lr", "peak_lr"});
  schema
      .choice("train.lr_scheduler", train.lr_scheduler,
              {{"constant", ScheduleKind::kConstant},
               {"linear", ScheduleKind::kLinear},
               {"cosine", ScheduleKind::kCosine},
               {"wsd", ScheduleKind::kWarmupStableDecay},
               {"one_cycle", ScheduleKind::kOneCycle}},
              "The learning rate's course after warm-up; formulas in model/schedule.h.")
      .aliases({"lr_scheduler_type", "scheduler", "lr_decay_style", "schedule"});
  schema.integer("train.warmup_steps", train.warmup_steps, "Steps of linear growth from learning_rate/W.")
      .at_least(0)
      .at_most(static_cast<double>(kMostSteps))
      .aliases({"lr_warmup_steps", "warmup_iters", "warmup", "num_warmup_steps"});
  schema.number("train.warmup_ratio", train.warmup_ratio, "The same as a share of all steps, rounded up.")
      .at_least(0)
      .at_most(1)
      .aliases({"warmup_fraction", "lr_warmup_fraction"});
  schema.number("train.min_lr_ratio", train.min_lr_ratio, "Where linear, cosine and wsd end, times learning_rate.")
      .at_least(0)
      .at_most(1)
      .aliases({"min_lr", "min_lr_rate"});
  schema.number("train.decay_ratio", train.decay_ratio, "wsd: the share of all steps at the end that decays.")
      .at_least(0)
      .at_most(1)
      .aliases({"lr_wsd_decay", "decay_fraction"});
  schema
      .number("train.weight_decay", train.adamw.weight_decay,
              "On matrices only, embeddings included; norms and biases never.")
      .at_least(0)
      .aliases({"wd"});
  schema.number("train.adam_beta1", train.adamw.beta1, "Decay of the first moment.")
      .at_least(0)
      .below(1)
      .aliases({"beta1"});
  schema.number("train.adam_beta2", train.adamw.beta2, "Decay of the second moment.")
      .at_least(0)
      .below(1)
      .aliases({"beta2"});
  schema.number("train.adam_epsilon", train.adamw.epsilon, "Added to the root of the second moment.")
      .at_least(0)
      .aliases({"eps", "adam_eps", "epsilon"});
  schema
      .number("train.max_grad_norm", train.adamw.max_grad_norm,
              "Gradients are scaled down to this global L2 norm; null: off.")
      .above(0)
      .aliases({"grad_clip", "clip_grad", "gradient_clipping", "clip_grad_norm", "gradient_clip_val", "max_norm"});
  schema
      .choice("train.recompute", train.recompute,
              {{"none", Recompute::kNone}, {"selective", Recompute::kSelective}, {"full", Recompute::kFull}},
              "What the backward pass computes again. none: nothing, most memory. selective: all but attention. full: "
              "whole blocks, least memory, a third more time.")
      .aliases(
          {"gradient_checkpointing", "activation_checkpointing", "recompute_granularity", "checkpoint_activations"});
  schema
      .integer(
          "train.mlp_tile", train.mlp_tile,
          "Rows of a rank's sequence the MLP works on at a time (8k): its working memory is then theirs alone. Sums "
          "for its weights' gradients are rounded in another order; from some thousand rows on no slower.")
      .at_least(1)
      .default_is("all rows")
      .aliases({"tiled_mlp", "mlp_chunk_size", "mlp_tile_size", "num_shards"});
  schema
      .choice("train.offload", train.offload,
              {{"none", Offload::kNone},
               {"checkpoints", Offload::kCheckpoints},
               {"optimizer", Offload::kOptimizer},
               {"all", Offload::kAll}},
              "What a device keeps in host memory. checkpoints: what recompute selective or full keep, hidden behind "
              "long sequences. optimizer: master weights and moments, 24 bytes a parameter over the link a step. all: "
              "both. The result is the same bits.")
      .aliases({"cpu_offload", "offload_optimizer", "activation_offloading", "offload_activations", "cpu_offloading",
                "activation_cpu_offload"});
  schema.integer("train.seed", train.seed, "Of weights and order; the same on every layout.")
      .at_least(0)
      .aliases({"random_seed", "data_seed"});
  schema
      .choice("train.loss", train.loss,
              {{"cross_entropy", TrainingLoss::kCrossEntropy}, {"longce", TrainingLoss::kLongCrossEntropy}},
              "longce (2410.23771): a token counts by how much more likely the model finds it with all of its document "
              "before it than with the last train.longce.context tokens only. Costs a forward pass more, and one over "
              "context + stride tokens for each stride of them.")
      .aliases({"loss_function", "loss_type", "longce"});
  schema.section("train.longce", "What train.loss longce compares with, and by how much.");
  schema
      .integer("train.longce.context", train.long_loss.context,
               "Tokens of the short context, at least; those of a document's beginning count 1.")
      .at_least(1)
      .at_most(kMostTokens)
      .aliases({"trunc_len", "short_context"});
  schema
      .integer("train.longce.stride", train.long_loss.stride,
               "So many tokens share a short context: the shorter, the closer to its length and the dearer.")
      .at_least(1)
      .at_most(kMostTokens)
      .aliases({"longce_stride"});
  schema.number("train.longce.largest_weight", train.long_loss.largest_weight, "No token counts more than this.")
      .at_least(1)
      .at_most(1e6)
      .aliases({"longce_gamma", "max_weight"});
  schema.section("train.spike",
                 "A loss that jumps: more than factor times the median of the last window losses. Off unless factor or "
                 "action is given. Five spikes in a row end the run with 76.");
  schema.number("train.spike.factor", train.spike.factor, "So many times the median is a spike.")
      .above(1)
      .may_change()
      .default_is("off; 3 with an action")
      .aliases({"spike_factor", "loss_spike_threshold"});
  schema
      .integer("train.spike.window", train.spike.window,
               "Losses the median is of; none is judged before half of them stand.")
      .at_least(2)
      .at_most(100000)
      .may_change();
  schema
      .choice("train.spike.action", train.spike.action,
              {{"skip", SpikeAction::kSkip}, {"rollback", SpikeAction::kRollback}, {"stop", SpikeAction::kStop}},
              "skip: no update in this step. rollback: back to the newest checkpoint, and on with the sequences after "
              "the spike. stop: end with 76; the checkpoints stand.")
      .may_change()
      .default_is("off; skip with a factor");
  schema.section("train.early_stopping",
                 "Ends the run, with 0, when evaluations stop getting better by checkpoint.best.metric, "
                 "validation.loss where none is given.");
  schema
      .integer("train.early_stopping.patience", train.early_stopping.patience,
               "So many evaluations in a row without a gain are enough.")
      .at_least(1)
      .at_most(1e6)
      .may_change()
      .default_is("off")
      .aliases({"early_stopping_patience", "early_stop_patience"});
  schema
      .number("train.early_stopping.min_delta", train.early_stopping.min_delta,
              "A gain is more than this over the last gain.")
      .at_least(0)
      .may_change()
      .aliases({"early_stopping_threshold", "early_stopping_min_delta"});
}

namespace {

void declare_output(Schema& schema, std::string& output) {
  schema.section("", "Top level.");
  schema.text("output", output, "The run's folder: configuration, metrics, log, checkpoints. The same folder resumes.")
      .default_is("required")
      .may_change()
      .aliases({"output_dir", "out_dir", "save_dir", "output_path", "run_dir"});
}

// Declares on defaults, then takes the values: what a schema writes is then complete.
template <class Use>
auto with_schema(const RunConfig& config, Use use) {
  RunConfig values;
  Schema schema;
  declare_run(schema, values);
  values = config;
  return use(schema);
}

}  // namespace

void declare_run(Schema& schema, RunConfig& config) {
  declare_model(schema, config.model);
  declare_rope(schema, config.rope);
  declare_data(schema, config.data);
  declare_train(schema, config.train);
  declare_adapter(schema, config.adapter);
  declare_parallel(schema, config.parallel);
  declare_runtime(schema, config.runtime);
  declare_checkpoint(schema, config.checkpoint);
  declare_eval(schema, config.eval);
  declare_output(schema, config.output);
}

void require_way_down(const TrainSection& train, int64_t steps, const std::string& where) {
  if (train.lr_scheduler == ScheduleKind::kOneCycle && train.warmup(steps) >= steps)
    fail(ExitCode::kUsage, "one_cycle with {} warm-up steps of {} has no way down, {}, shorten the warm-up",
         train.warmup(steps), steps, where);
}

void check_run(const Schema& schema, const RunConfig& config) {
  const auto need = [&](const char* name, const char* example) {
    if (!schema.given(name)) {
      fail(ExitCode::kUsage, "{} is missing, {}, add it ({})", name, schema.source(), example);
    }
  };
  const auto exclude = [&](const std::string& name, const std::string& other, const char* why) {
    if (schema.given(name) && schema.given(other)) {
      fail(ExitCode::kUsage, "{} and {} are both given, {} and {}, {}", name, other, schema.where(name),
           schema.where(other), why);
    }
  };
  if (config.model.base) {
    for (const auto& [name, value] : config.model.geometry.items()) {
      exclude("model.base", "model." + name, "remove one: a base model brings its own geometry");
    }
  } else {
    for (const char* name :
         {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}) {
      if (!config.model.geometry.contains(name)) {
        fail(ExitCode::kUsage, "model.{} is missing, {}, give model.base or a whole geometry", name, schema.source());
      }
    }
  }
  need("data.train", "data: {train: [{path: train.jsonl}]}");
  if (config.data.train.empty())
    fail(ExitCode::kUsage, "data.train is empty, {}, name a file", schema.where("data.train"));
  if (config.data.by_name())
    for (size_t i = 0; i < config.data.train.size(); ++i)
      for (size_t k = 0; k < i; ++k)
        if (config.data.train[i].name_or_path() == config.data.train[k].name_or_path())
          fail(ExitCode::kUsage, "two entries of data.train are called {}, {}, give them names",
               printable(config.data.train[i].name_or_path()), schema.where("data.train"));
  if (config.data.by_weight() && config.train.epochs)
    fail(ExitCode::kUsage,
         "train.epochs and weights in data.train are both given, {} and {}, set train.max_steps: sources that start "
         "again when used up have no epoch in common",
         schema.where("train.epochs"), schema.where("data.train"));
  need("data.sequence_length", "data: {sequence_length: 4k}");
  const PositionKind positions = config.data.positions;
  if (config.data.positions_length && positions == PositionKind::kConsecutive)
    fail(ExitCode::kUsage,
         "data.positions_length is where skipped positions end, and data.positions is consecutive, {}, take "
         "data.positions pose or skipalign, or leave it out",
         schema.where("data.positions_length"));
  if (config.data.skip_probability && positions != PositionKind::kSkipAlign)
    fail(ExitCode::kUsage, "data.skip_probability is of data.positions skipalign, {}, take that or leave it out",
         schema.where("data.skip_probability"));
  exclude("train.max_steps", "train.epochs", "keep one of them");
  if (!config.train.max_steps && !config.train.epochs) {
    fail(ExitCode::kUsage, "train.max_steps is missing, {}, add it, or train.epochs", schema.source());
  }
  exclude("train.warmup_steps", "train.warmup_ratio", "keep one of them");
  if (config.train.max_steps)
    require_way_down(config.train, *config.train.max_steps, schema.where("train.lr_scheduler"));
  if (config.train.recompute == Recompute::kNone) {
    if (config.train.mlp_tile)
      fail(ExitCode::kUsage,
           "train.mlp_tile bounds what is computed again, and recompute none keeps the MLP of all rows, {}, take "
           "train.recompute selective or full, or leave mlp_tile out",
           schema.where("train.mlp_tile"));
    if (offloads_checkpoints(config.train.offload))
      fail(
          ExitCode::kUsage,
          "train.offload moves what recompute selective or full keep, and recompute is none, {}, take one of those, or "
          "train.offload none or optimizer",
          schema.where("train.offload"));
  }
  if (config.train.loss == TrainingLoss::kLongCrossEntropy &&
      config.train.long_loss.context + config.train.long_loss.stride >= config.data.sequence_length)
    fail(ExitCode::kUsage,
         "train.loss longce compares with {} to {} tokens of context, and a sequence has {}, {}, lower "
         "train.longce.context and stride or raise data.sequence_length",
         config.train.long_loss.context, config.train.long_loss.context + config.train.long_loss.stride,
         config.data.sequence_length, schema.where("train.loss"));
  check_adapter(schema, config.adapter);
  need("output", "output: runs/name");
}

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides) {
  RunConfig config;
  Schema schema;
  declare_run(schema, config);
  schema.apply_file(path);
  for (size_t i = 0; i < overrides.size(); ++i) schema.apply_override(overrides[i]);
  check_run(schema, config);
  return config;
}

std::string resolved_yaml(const RunConfig& config) {
  return with_schema(config, [](const Schema& schema) { return schema.yaml(); });
}

Json to_json(const RunConfig& config) {
  return with_schema(config, [](const Schema& schema) { return schema.json(); });
}

std::vector<std::string> changes_since(const Json& saved, const RunConfig& config, const std::string& where) {
  return with_schema(config, [&](const Schema& schema) { return schema.changes_since(saved, where); });
}

}  // namespace carillon
