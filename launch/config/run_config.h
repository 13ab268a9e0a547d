// All settings of a run: one struct of plain values per section of the configuration. The keys (names, limits, help)
// are declared in run_config.cpp; the defaults are the initialisers here.
//
// An empty optional means that the key was not given and has no default, or that the program decides (`auto`, `~`).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/chat/train_on.h"
#include "data/corpus/packing.h"
#include "data/corpus/positions.h"
#include "launch/config/schema.h"
#include "model/activations.h"
#include "model/adapter_config.h"
#include "model/long_loss_settings.h"
#include "model/schedule.h"
#include "parallel/context/ring_topology.h"
#include "parallel/context/sequence_layout.h"
#include "parallel/optimizer/adamw_settings.h"
#include "runtime/dtype.h"

namespace carillon {

// Either `base`, or a geometry with the names of Hugging Face's config.json.
struct ModelSection {
  std::optional<std::string> base;
  Json geometry = Json::object();  // the given keys, by name; empty with a base

  // Returns the geometry as the text of a config.json, with `architecture` converted to `model_type`.
  std::string config_json() const;
};

// The given keys, to be merged over the model's own rope (merge_rope_config in model/rope_config.h).
struct RopeSection {
  Json settings = Json::object();
};

// An entry of data.train or data.validation; weight and name in data.train only.
struct DataSource {
  std::string path;  // a file, a folder or a pattern (data/corpus/data_files.h)
  std::optional<double> weight;
  std::optional<std::string> name;

  const std::string& name_or_path() const { return name ? *name : path; }
};

struct DataSection {
  std::vector<DataSource> train;
  std::vector<DataSource> validation;
  std::optional<std::string> tokenizer;      // empty: the base model's
  std::optional<std::string> chat_template;  // empty: the tokenizer's
  TrainOn train_on = TrainOn::kAssistant;
  int64_t sequence_length = 0;
  PackingMode packing = PackingMode::kWhole;
  PositionKind positions = PositionKind::kConsecutive;
  std::optional<int64_t> positions_length;  // empty: what the rotation reaches
  std::optional<double> skip_probability;   // empty: PositionSettings'
  bool shuffle = true;

  // Whether sequences are drawn by weight; whether records count by source.
  bool by_weight() const {
    return std::any_of(train.begin(), train.end(), [](const DataSource& source) { return source.weight.has_value(); });
  }
  bool by_name() const {
    return by_weight() ||
           std::any_of(train.begin(), train.end(), [](const DataSource& source) { return source.name.has_value(); });
  }
};

// What to do about a loss spike: launch/train/spike_guard.h. Off unless factor or action is given.
enum class SpikeAction { kSkip, kRollback, kStop };
struct SpikeSection {
  std::optional<double> factor;  // times the median
  int64_t window = 100;          // number of losses in the median
  std::optional<SpikeAction> action;

  bool on() const { return factor || action; }
  double factor_or_default() const { return factor.value_or(3.0); }
  SpikeAction action_or_default() const { return action.value_or(SpikeAction::kSkip); }
};

// Ends a run whose evaluations no longer improve (launch/evaluate/watched_metric.h).
struct EarlyStoppingSection {
  std::optional<int64_t> patience;  // evaluations without a gain; empty: off
  double min_delta = 0;             // a gain must be larger than this
};

enum class TrainingLoss { kCrossEntropy, kLongCrossEntropy };

struct TrainSection {
  std::optional<int64_t> max_steps;  // this or epochs
  std::optional<double> epochs;
  int64_t micro_batch_size = 1;
  int64_t gradient_accumulation_steps = 1;
  std::string optimizer = "adamw";
  double learning_rate = 2e-5;
  ScheduleKind lr_scheduler = ScheduleKind::kCosine;
  int64_t warmup_steps = 0;  // or warmup_ratio
  std::optional<double> warmup_ratio;
  double min_lr_ratio = 0.0;
  double decay_ratio = 0.1;
  AdamWSettings adamw;
  TrainingLoss loss = TrainingLoss::kCrossEntropy;
  LongLossSettings long_loss;
  Recompute recompute = Recompute::kSelective;
  std::optional<int64_t> mlp_tile;  // empty: all rows at once
  Offload offload = Offload::kNone;
  int64_t seed = 42;
  SpikeSection spike;
  EarlyStoppingSection early_stopping;

  // Warm-up steps W of a run of `steps` steps; a ratio rounds up.
  int64_t warmup(int64_t steps) const;
};

// More steps than this are a typing error; any count made of steps stays below 2^63.
inline constexpr int64_t kMostSteps = int64_t{1} << 40;
// Bounds of single numbers, so that their products fit 63 bits. Their combinations are checked with the model
// (require_possible_sizes in launch/session/run_checks.h).
inline constexpr double kMostSequences = 1 << 20;
inline constexpr double kMostTokens = 4294967296.0;  // 2^32
// More than any machine has, in total or on one axis: products of three axes stay far below 2^63.
inline constexpr int64_t kMostRanks = int64_t{1} << 20;

// Settings of a new adapter, if given; an adapter continued from `base` has its own.
struct AdapterSection {
  std::optional<bool> lora;  // adapter.type; not set: no adapter
  std::optional<int64_t> rank;
  std::optional<double> alpha;
  std::optional<double> dropout;
  std::optional<std::vector<std::string>> target_modules;  // empty list: all-linear
  std::optional<bool> rslora;
  std::optional<std::string> base;
  std::optional<Quantization> base_quantization;

  bool on() const { return lora.value_or(false); }
  AdapterSettings settings() const;
};

struct ParallelSection {
  int64_t tensor = 1;
  int64_t context = 1;
  std::optional<int64_t> data;  // empty: world / (tensor · context)
  int64_t zero = 1;
  LayoutKind layout = LayoutKind::kZigzag;
  RingKind ring = RingKind::kAuto;
  std::optional<int64_t> ring_inner;  // empty: the ranks of a node

  RingChoice ring_choice() const { return {ring, static_cast<int>(ring_inner.value_or(0))}; }
};

struct RuntimeSection {
  std::string device = "auto";  // as BackendOptions::device
  DType dtype = DType::kBFloat16;
  std::optional<int64_t> threads;
  std::string attention = "auto";
  std::string isa = "auto";  // as BackendOptions::instruction_set
  bool tune = false;         // as BackendOptions::tune
  double patience = 1800;    // seconds; 0: unlimited
  std::optional<std::string> trace;
  bool tensorboard = false;
  bool profile = false;  // --profile; not a key
};

struct CheckpointSection {
  std::optional<int64_t> every_steps = 100;
  std::optional<double> every = 1800;  // seconds
  int64_t keep = 3;
  std::string resume = "auto";  // auto | never | a path
  bool async = false;
  std::optional<std::string> best_metric;  // its best checkpoint is kept besides the newest; empty: none
};

struct EvalSection {
  std::optional<int64_t> every_steps;
  std::optional<double> every;  // seconds
  std::vector<int64_t> at;
  bool at_end = false;
  std::vector<int64_t> lengths;
  Json rope = Json::object();  // name -> settings
  Json tasks = Json::array();
};

struct RunConfig {
  ModelSection model;
  RopeSection rope;
  DataSection data;
  TrainSection train;
  AdapterSection adapter;
  ParallelSection parallel;
  RuntimeSection runtime;
  CheckpointSection checkpoint;
  EvalSection eval;
  std::string output;
  bool overwrite = false;
  std::string read_from;  // the configuration file; empty where it was none
};

// Declares a section's keys with `section` as their target, which must outlive the schema.
void declare_model(Schema& schema, ModelSection& section);
void declare_rope(Schema& schema, RopeSection& section);
void declare_data(Schema& schema, DataSection& section);
// chat_template and train_on, after `prefix`.
void declare_chat(Schema& schema, const std::string& prefix, std::optional<std::string>& chat_template,
                  TrainOn& train_on);
void declare_train(Schema& schema, TrainSection& section);
void declare_adapter(Schema& schema, AdapterSection& section);
// `adapter`: an adapter to apply to a command's model.
void declare_adapter_path(Schema& schema, std::optional<std::string>& adapter);
// Checks what involves several keys. Error 64.
void check_adapter(const Schema& schema, const AdapterSection& section);
void declare_parallel(Schema& schema, ParallelSection& section);
void declare_runtime(Schema& schema, RuntimeSection& section);
void declare_checkpoint(Schema& schema, CheckpointSection& section);
void declare_eval(Schema& schema, EvalSection& section);
// Declares all of them and `output`: the keys of `carillon train`.
void declare_run(Schema& schema, RunConfig& config);

// Fails with error 64, naming `where`, for one_cycle without steps for its descent.
void require_decay_steps(const TrainSection& train, int64_t steps, const std::string& where);

// Checks what involves several keys: base or geometry, steps or epochs, required keys. Call it after everything was
// applied. Fails with error 64 naming keys and places.
void check_run(const Schema& schema, const RunConfig& config);

// Applies the file, then the `key=value` arguments, then check_run. Pure: the same on every rank. Errors 64, 66 (no
// such file). `unused`, unless null, receives the lines of unused_keys().
RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides,
                          std::vector<std::string>* unused = nullptr);

// The resolved configuration, written to a run's folder (load_run_config of it gives the same) and a checkpoint's
// manifest.
std::string resolved_yaml(const RunConfig& config);
Json to_json(const RunConfig& config);

// Returns the differences on resume from `saved` (to_json of the run that wrote the checkpoint). See
// Schema::changes_since.
std::vector<std::string> changes_since(const Json& saved, const RunConfig& config, const std::string& where);

}  // namespace carillon
