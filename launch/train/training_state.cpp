#include "launch/train/training_state.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "data/corpus/token_file.h"
#include "data/formats/model_source.h"
#include "runtime/json_fields.h"
#include "runtime/progress.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// Checkpoints without data.sequences count only steps, all of the size given by the layout and batch they were written
// with; data_offset is the number of such steps that rollbacks skipped.
int64_t sequences_by_steps(const Manifest& manifest, const JsonFields& data, const JsonFields::Source& source) {
  const JsonFields layout(manifest.layout, source, "layout."), config(manifest.config, source, "config.");
  const JsonFields train = config.object("run").object("train");
  int64_t sequences = manifest.step;
  bool fits = !__builtin_add_overflow(sequences, data.integer_or("data_offset", 0, 0), &sequences);
  for (const int64_t factor : {layout.integer("data", 1), train.integer("micro_batch_size", 1),
                               train.integer("gradient_accumulation_steps", 1)})
    fits = fits && !__builtin_mul_overflow(sequences, factor, &sequences);
  if (!fits)
    fail(ExitCode::kBadInput, "the sequences of {} steps cannot be counted, {}, {}", manifest.step, source.place,
         source.remedy);
  return sequences;
}

TrainingState state_of(const Manifest& manifest, const std::string& path) {
  TrainingState state;
  state.step = manifest.step;
  const JsonFields::Source source{path, "resume from another checkpoint"};
  const JsonFields data(manifest.data, source, "data.");
  state.tokens_total = data.integer("tokens_total", 0);
  state.updates = data.integer("updates", 0);
  state.nonfinite_steps = data.integer("nonfinite_steps", 0);
  state.sequences = data.has("sequences") ? data.integer("sequences", 0) : sequences_by_steps(manifest, data, source);
  // Keys below are optional.
  state.spikes = data.integer_or("spikes", 0, 0);
  if (const auto window = manifest.data.find("spike_window"); window != manifest.data.end() && window->is_array())
    for (const Json& norm : *window)
      if (norm.is_number()) state.spike_window.push_back(norm.get<double>());
  state.evaluation_due = data.boolean_or("evaluation_due", false);
  if (manifest.data.contains("best")) {
    const JsonFields best(manifest.data["best"], source, "data.best.");
    const auto number = [&](const char* key) -> std::optional<double> {
      const auto found = manifest.data["best"].find(key);
      return found != manifest.data["best"].end() && found->is_number() ? std::optional(found->get<double>())
                                                                        : std::nullopt;
    };
    const std::string metric = manifest.data["best"].value("metric", Json()).is_string()
                                   ? manifest.data["best"]["metric"].get<std::string>()
                                   : "";
    state.best = {metric,
                  number("value"),
                  best.integer_or("step", 0, 0),
                  number("mark"),
                  best.integer_or("without_gain", 0, 0),
                  best.integer_or("judged_step", 0, 0)};
  }
  return state;
}

ResumePoint resume_point(const std::string& path) {
  ResumePoint point;
  point.path = path;
  point.manifest = read_manifest(path);
  point.state = state_of(point.manifest, path);
  return point;
}

bool is_same_path(const std::string& one, const std::string& other) {
  std::error_code error;
  return one == other || fs::equivalent(one, other, error);
}

// Whether the run that wrote `checkpoint` was told to resume from `resume`.
bool began_at(const std::string& checkpoint, const std::string& resume) {
  try {
    const Json config = read_manifest(checkpoint).config;
    const Json::json_pointer key("/run/checkpoint/resume");
    return config.contains(key) && config[key].is_string() && is_same_path(config[key].get<std::string>(), resume);
  } catch (const Error& error) {
    if (error.code() != ExitCode::kBadInput) throw;
    return false;
  }
}

// Returns the checkpoint that checkpoint.resume names; of a run, its newest. Nothing if the run began there and has
// later checkpoints of its own `present`: the same command, given again, goes on from those.
std::optional<ResumePoint> named_point(const RunConfig& config, const std::vector<CheckpointFolder>& present,
                                       const Notice& notice) {
  const std::string& resume = config.checkpoint.resume;
  if (!fs::exists(resume)) fail(ExitCode::kMissingInput, "no such checkpoint, {}, correct checkpoint.resume", resume);
  const bool is_run = fs::is_directory(fs::path(resume) / "checkpoints");
  ResumePoint point = resume_point(is_run ? resolve_model_path(resume, notice) : resume);
  if (present.empty() || present.front().step <= point.state.step) return point;
  const CheckpointFolder& newest = present.front();
  fs::path named = fs::path(point.path).lexically_normal();
  if (!named.has_filename()) named = named.parent_path();  // "…/step-00000100/"
  const fs::path parent = named.parent_path();
  if (is_same_path(parent.empty() ? "." : parent.string(), checkpoints_folder(config)))
    fail(ExitCode::kUsage,
         "checkpoint.resume names a step with later ones beside it ({}), {}, remove those or name another output",
         newest.path, resume);
  if (!began_at(newest.path, resume))
    fail(ExitCode::kUsage,
         "the output has later checkpoints ({}) than the one to begin with, checkpoint.resume {}, remove those or name "
         "another output",
         newest.path, resume);
  notice(fmt::format("the run began at {} and goes on from its own checkpoints", resume));
  return std::nullopt;
}

// Looks only at the manifests; bytes are checked when they are loaded.
std::vector<ResumePoint> look(const RunConfig& config, const Notice& notice) {
  const std::string folder = checkpoints_folder(config);
  const std::vector<CheckpointFolder> present = list_checkpoints(folder);
  const std::string& resume = config.checkpoint.resume;
  if (resume == "never") {
    if (!present.empty())
      fail(ExitCode::kUsage,
           "checkpoint.resume is never, but there are checkpoints, {}, name another output or remove them",
           present.front().path);
    return {};
  }
  if (resume != "auto") {
    if (auto point = named_point(config, present, notice)) return {std::move(*point)};
  }
  std::vector<ResumePoint> points;
  for (const CheckpointFolder& found : present) {
    try {
      (void)read_manifest_if_complete(found.path);
      points.push_back(resume_point(found.path));
    } catch (const Error& error) {
      if (error.code() != ExitCode::kBadInput) throw;  // an unresponsive disk does not mean damage
      notice(fmt::format("passing over {}: {}", found.path, error.what()));
    }
  }
  if (points.empty() && !present.empty())
    fail(ExitCode::kBadInput, "none of {} checkpoints is whole, {}, restore one or name another output", present.size(),
         folder);
  return points;
}

}  // namespace

std::string checkpoints_folder(const RunConfig& config) { return config.output + "/checkpoints"; }

std::vector<ResumePoint> find_resume_points(Communicator& world, const RunConfig& config, const Notice& notice) {
  std::vector<ResumePoint> points;
  std::string paths;
  // One rank looks, so that all ranks see the same even while a shared folder settles; the others read what it found.
  agree(world, [&] {
    if (world.rank() == 0) points = look(config, notice);
  });
  for (const ResumePoint& point : points) paths += point.path + '\n';
  paths = broadcast_text(world, paths);
  agree(world, [&] {
    if (world.rank() == 0) return;
    for (size_t at = 0; at < paths.size();) {
      const size_t end = paths.find('\n', at);
      points.push_back(resume_point(paths.substr(at, end - at)));
      at = end + 1;
    }
  });
  std::vector<std::string> manifests;
  for (const ResumePoint& point : points) manifests.push_back(point.path + "/manifest.json");
  require_same_files(world, manifests);
  if (!points.empty()) {
    const Json& saved = points.front().manifest.config;
    for (const std::string& change : changes_since(saved.value("run", Json::object()), config, points.front().path))
      notice(fmt::format("resuming with another {}", change));
  }
  return points;
}

std::vector<NamedShard> checkpoint_shards(Network& network, const ProcessGrid& grid) {
  std::vector<NamedShard> shards =
      network.parameters().weight_shards(network.backend(), grid.dp_cp->rank() == 0, Which::kTrained);
  for (NamedShard& shard : network.optimizer().state_shards()) shards.push_back(std::move(shard));
  return shards;
}

namespace {

// In a float32 or float64 run the weights are the masters, so the masters of a bfloat16 run's checkpoint are better
// sources than its `model/`.
void prefer_masters(const Manifest& manifest, std::vector<NamedShard>& shards) {
  const std::string model = "model/", master = "optimizer/master/";
  const bool own_masters = std::any_of(shards.begin(), shards.end(),
                                       [&](const NamedShard& shard) { return shard.name.starts_with(master); });
  for (NamedShard& shard : shards) {
    const bool stored = manifest.tensors.contains(shard.name);
    if (!own_masters && shard.name.starts_with(model)) {
      const std::string better = master + shard.name.substr(model.size());
      if (manifest.tensors.contains(better)) shard.name = better;
    } else if (shard.name.starts_with(master) && !stored) {
      shard.name = model + shard.name.substr(master.size());
    }
  }
}

}  // namespace

std::optional<ResumePoint> load_resume_point(const ProcessGrid& grid, const std::vector<ResumePoint>& points,
                                             Network& network, const Notice& notice) {
  const Activity activity("loading a checkpoint");
  const std::vector<NamedShard> shards = checkpoint_shards(network, grid);
  for (size_t i = 0; i < points.size(); ++i) {
    std::vector<NamedShard> wanted = shards;
    prefer_masters(points[i].manifest, wanted);
    try {
      load_checkpoint(*grid.world, points[i].path, wanted);
      network.optimizer().set_updates(points[i].state.updates);
      return points[i];
    } catch (const Error& error) {
      // Loading agrees on errors: every rank gets the same one.
      if (error.code() != ExitCode::kBadInput || i + 1 == points.size()) throw;
      notice(fmt::format("passing over {}: {}", points[i].path, error.what()));
    }
  }
  return std::nullopt;
}

namespace {

std::string text(const Json& entry, const char* key) {
  const auto found = entry.find(key);
  return found != entry.end() && found->is_string() ? found->get<std::string>() : "";
}

// Pairs the files by content, then by name. A file that only moved is no change; one that stands elsewhere in the list
// is, because sequences are taken in the list's order.
std::vector<std::string> file_changes(const Json& before, const std::vector<FileContent>& sources) {
  std::vector<std::string> changes;
  std::vector<bool> is_paired(before.size());
  std::vector<std::optional<size_t>> partner(sources.size());
  const auto pair = [&](const auto& fits) {
    for (size_t i = 0; i < sources.size(); ++i)
      for (size_t j = 0; j < before.size() && !partner[i]; ++j)
        if (!is_paired[j] && fits(sources[i], before[j])) partner[i] = j, is_paired[j] = true;
  };
  const auto same_hash = [](const FileContent& now, const Json& then) { return text(then, "hash") == now.hash; };
  const auto same_path = [](const FileContent& now, const Json& then) { return text(then, "path") == now.path; };
  pair([&](const FileContent& now, const Json& then) { return same_hash(now, then) && same_path(now, then); });
  pair(same_hash);
  pair(same_path);
  for (size_t i = 0; i < sources.size(); ++i)
    if (!partner[i])
      changes.push_back(fmt::format("{} is new among the data", sources[i].path));
    else if (!same_hash(sources[i], before[*partner[i]]))
      changes.push_back(fmt::format("{} has other content than when it was trained on", sources[i].path));
  for (size_t j = 0; j < before.size(); ++j)
    if (!is_paired[j])
      changes.push_back(fmt::format("{} was trained on and is no longer among the data", text(before[j], "path")));
  if (changes.empty() && !std::is_sorted(partner.begin(), partner.end()))
    changes.emplace_back("its files are in another order");
  return changes;
}

}  // namespace

std::vector<std::string> data_changes(const Manifest& manifest, const std::vector<FileContent>& sources,
                                      const Tokenizer* tokenizer, const std::string& template_hash,
                                      std::optional<uint32_t> end_of_document) {
  std::vector<std::string> changes;
  const Json before = manifest.data.value("sources", Json());
  if (!before.is_array()) return changes;  // an old checkpoint
  for (std::string& change : file_changes(before, sources)) changes.push_back(std::move(change));
  const std::string ids = text(manifest.data, "tokenizer_hash"), now = tokenizer ? tokenizer_hash_text(*tokenizer) : "";
  if (ids != now) changes.push_back(fmt::format("the tokenizer is another one (hash '{}', it was '{}')", now, ids));
  // Absent from old checkpoints, and empty if the data had no conversations.
  if (const std::string then = text(manifest.data, "chat_template_hash"); !then.empty() && then != template_hash)
    changes.push_back(fmt::format("the chat template is another one (hash '{}', it was '{}')", template_hash, then));
  // The token after each text (absent from old checkpoints).
  const auto shown = [](const Json& end) { return end.is_null() ? "none" : end.dump(); };
  if (const auto then = manifest.data.find("end_of_document"); then != manifest.data.end())
    if (const Json now_put = end_of_document ? Json(*end_of_document) : Json(); *then != now_put)
      changes.push_back(fmt::format("the end-of-document token is {}, it was {}", shown(now_put), shown(*then)));
  return changes;
}

int64_t total_steps(const TrainSection& train, const TrainingState& state, int64_t sequences_of_epoch, int64_t block) {
  if (train.max_steps) return *train.max_steps;
  const double wanted = *train.epochs * static_cast<double>(sequences_of_epoch);
  if (!(wanted / static_cast<double>(block) <= static_cast<double>(kMostSteps)))
    fail(ExitCode::kUsage, "{} epochs of {} sequences are more than {} steps, in train.epochs, give fewer",
         *train.epochs, sequences_of_epoch, kMostSteps);
  // 0.1 epochs of 30 sequences are 3 sequences; rounding errors must not make them more.
  const double rounded = std::round(wanted);
  const auto sequences =
      static_cast<int64_t>(std::abs(wanted - rounded) < 1e-9 * std::max(1.0, wanted) ? rounded : std::ceil(wanted));
  const int64_t left = std::max<int64_t>(0, sequences - state.sequences);
  const int64_t steps = state.step + (left + block - 1) / block;
  require_decay_steps(train, steps, "train.lr_scheduler");
  return steps;
}

void require_same_base(const std::vector<ResumePoint>& points, const OpenedModel& model) {
  for (const ResumePoint& point : points) {
    const Json adapter = point.manifest.config.value("adapter", Json());
    if (!adapter.is_object() || !model.config.adapter) continue;
    const std::string known = adapter.value("base_hash", "");
    if (known != model.base_hash)
      fail(ExitCode::kBadInput,
           "the base {} is another one than the adapter of this run was trained on (content {}, it was {} at {}), {}, "
           "give model.base the base it was made for",
           model.base_path, model.base_hash, known, adapter.value("base", ""), point.path);
  }
}

std::vector<std::string> base_changes(const std::vector<ResumePoint>& points, const RunConfig& config,
                                      const OpenedModel& model) {
  std::vector<std::string> changes;
  if (points.empty() || !config.model.base) return changes;
  const Json &saved = points.front().manifest.config, run = to_json(config);
  for (const char* section : {"model", "rope"})  // what the run itself says otherwise was told already
    if (saved.value("run", Json::object()).value(section, Json()) != run.value(section, Json())) return changes;
  const Json before = saved.value("model", Json::object()), after = Json::parse(write_model_config(model.config));
  for (const auto& [key, value] : after.items()) {
    const Json was = before.value(key, Json());
    const bool ends = key.find("token_id") != std::string::npos,
               may_differ = ends || key.find("rope") != std::string::npos;
    if (was == value || (!before.contains(key) && !ends)) continue;  // a key newer than the checkpoint
    if (key == "dtype" || key == "torch_dtype" || key == "initializer_range" || key == "pad_token_id") continue;
    const std::string change = fmt::format("{}: {} -> {}", key, was.dump(), value.dump());
    if (!may_differ)
      fail(ExitCode::kUsage,
           "the model {} is not as it was, {}, {}, give the old one back or name another output folder",
           *config.model.base, change, points.front().path);
    changes.push_back(fmt::format("the model {} is not as it was: {}", *config.model.base, change));
  }
  return changes;
}

Manifest make_manifest(const RunConfig& config, const OpenedModel& opened, const ProcessGrid& grid,
                       const TrainingState& state, const std::vector<FileContent>& sources, const Tokenizer* tokenizer,
                       const std::string& template_hash, std::optional<uint32_t> end_of_document) {
  Manifest manifest;
  manifest.step = state.step;
  manifest.layout = {{"data", grid.shape.data},
                     {"context", grid.shape.context},
                     {"tensor", grid.shape.tensor},
                     {"zero", config.parallel.zero},
                     {"sequence_layout", config.parallel.layout == LayoutKind::kZigzag ? "zigzag" : "contiguous"}};
  // The data position is `sequences`: the sequences of a step depend only on how many were taken before it.
  Json files = Json::array();
  for (const FileContent& source : sources)
    files.push_back({{"path", source.path}, {"size", source.size}, {"hash", source.hash}});
  manifest.data = {{"step", state.step},
                   {"sequences", state.sequences},
                   {"tokens_total", state.tokens_total},
                   {"updates", state.updates},
                   {"nonfinite_steps", state.nonfinite_steps},
                   {"sources", files}};
  if (tokenizer != nullptr) {
    manifest.data["tokenizer_hash"] = tokenizer_hash_text(*tokenizer);
    manifest.data["end_of_document"] = end_of_document ? Json(*end_of_document) : Json();
  }
  if (!template_hash.empty()) manifest.data["chat_template_hash"] = template_hash;
  if (state.spikes > 0) manifest.data["spikes"] = state.spikes;
  if (!state.spike_window.empty()) manifest.data["spike_window"] = state.spike_window;
  if (state.best.judged_step > 0) {
    const auto number = [](const std::optional<double>& value) { return value ? Json(*value) : Json(); };
    manifest.data["best"] = {{"metric", state.best.metric},
                             {"value", number(state.best.value)},
                             {"step", state.best.step},
                             {"mark", number(state.best.mark)},
                             {"without_gain", state.best.without_gain},
                             {"judged_step", state.best.judged_step}};
  }
  if (state.evaluation_due) manifest.data["evaluation_due"] = true;
  const ModelConfig& model = opened.config;
  manifest.config = {{"run", to_json(config)}, {"model", Json::parse(write_model_config(model))}};
  if (model.adapter)
    manifest.config["adapter"] = {
        {"base", opened.base_path},
        {"base_hash", opened.base_hash},
        {"config", Json::parse(write_adapter_config(model.adapter, model, opened.base_path))}};
  return manifest;
}

}  // namespace carillon
