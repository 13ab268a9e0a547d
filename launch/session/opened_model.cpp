#include "launch/session/opened_model.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "data/files/same_files.h"
#include "data/formats/adapted_model.h"
#include "data/formats/fused_source.h"
#include "launch/session/fused_adapters.h"
#include "launch/session/learned_rotation.h"
#include "launch/session/model_tensors.h"
#include "launch/session/run_checks.h"
#include "launch/session/same_inputs.h"
#include "launch/session/unused_rope.h"
#include "model/clex.h"
#include "runtime/foreign_error.h"
#include "runtime/progress.h"
#include "runtime/stop_request.h"

namespace carillon {

namespace {

// One rank resolves the path to a checkpoint and verifies it; all ranks read that one.
std::string resolved_everywhere(Communicator& world, const std::string& path, const Notice& notice) {
  if (path.empty()) return "";
  std::string resolved;
  agree(world, [&] {
    if (world.rank() == 0) resolved = resolve_model_path(path, notice);
  });
  resolved = broadcast_text(world, resolved);
  require_same_model(world, resolved);
  return resolved;
}

std::map<std::string, std::vector<int64_t>> adapter_tensors(const ModelSource& source) {
  std::map<std::string, std::vector<int64_t>> tensors;
  for (const std::string& name : source.tensor_names())
    if (is_adapter_tensor(name)) tensors[name] = source.stored(name).shape;
  return tensors;
}

AdapterConfig adapter_in(const ModelSource& source, const ModelConfig& model) {
  return parse_adapter_config(source.adapter()->config, adapter_tensors(source), model, source.path());
}

// Checks that `base` in its current state is the one that the adapter of `source` was trained on, if the adapter
// records that.
void require_same_base(const ModelSource& source, const std::string& base, const std::string& hash) {
  const std::string known = source.adapter()->base_hash;
  if (!known.empty() && known != hash)
    fail(ExitCode::kBadInput,
         "the base {} is another one than the adapter was trained on (content {}, it was {}), {}, give it the base it "
         "was made for",
         base, hash, known, source.path());
}

// A path that other processes can open.
std::string absolute_path(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error).lexically_normal();
  return error ? path : absolute.string();
}

// Identifies the base by reading all of it once, divided over the ranks.
void identify_base(Communicator& world, const ModelSource& base, OpenedModel& model) {
  model.base_path = absolute_path(base.path());
  model.base_hash = content_hash(world, base);
}

void note_remarks(Communicator& world, const ModelConfig& model, const Json& rope, const Notice& notice) {
  if (world.rank() != 0) return;
  for (const std::string& remark : model.remarks) notice(remark);
  note_unused_rope(rope, model.rope, notice);
}

OpenedModel open_source(Communicator& world, const std::string& path, const std::string& adapter, const Json& rope,
                        const Notice& notice, bool has_adapter) {
  const Activity activity("opening the model");
  OpenedModel model;
  const std::string resolved = resolved_everywhere(world, path, notice);
  const std::string beside = resolved_everywhere(world, adapter, notice);
  agree(world, [&] {
    const WorkingOn here(beside.empty() ? resolved : beside);
    model.source = ModelSource::open(resolved);
    if (beside.empty()) return;
    if (model.source->adapter())
      fail(ExitCode::kUsage, "{} is an adapter already, {}, give its base as the model", path, adapter);
    model.source = adapt(std::move(model.source), ModelSource::open_adapter(beside));
  });
  const ModelSource* base = model.source->base();
  if (base != nullptr && beside.empty()) require_same_model(world, base->path());
  if (base == nullptr && has_adapter) base = model.source.get();
  if (base != nullptr) identify_base(world, *base, model);
  agree(world, [&] {
    if (model.source->adapter()) require_same_base(*model.source, model.base_path, model.base_hash);
    const std::string where = model.source->path();
    model.config = parse_model_config(model.source->config_json(), where);
    if (world.rank() == 0)
      for (const std::string& line : model.source->notices()) notice(line);
    model.source = split_source(std::move(model.source), fused_tensors(model.config));
    if (model.source->adapter())
      model.source = split_adapter(std::move(model.source), possible_fused_adapters(model.config));
    model.source->require(tensors_of(model.config, *model.source));
    if (model.source->adapter()) model.config.adapter = adapter_in(*model.source, model.config);
    static_cast<ModelRope&>(model.config) = merge_model_rope(model.config, rope, "rope");
  });
  note_remarks(world, model.config, rope, notice);
  return model;
}

}  // namespace

OpenedModel open_model(Communicator& world, const std::string& path, const Json& rope, const Notice& notice,
                       const std::string& adapter) {
  OpenedModel model = open_source(world, path, adapter, rope, notice, /*has_adapter=*/false);
  if (model.config.rope.type == RopeType::kClex && !has_learned_rotation(*model.source))
    fail(ExitCode::kUsage,
         "rope type clex is learned with a model, and nothing was learned with {}, in rope, train with it first "
         "(carillon train, rope.type clex), or use ntk",
         model.source->path());
  return model;
}

OpenedModel open_run_model(Communicator& world, const RunConfig& config, const Notice& notice) {
  OpenedModel model;
  if (config.model.base) {
    const std::string from = config.adapter.on() ? config.adapter.base.value_or("") : "";
    model = open_source(world, *config.model.base, from, config.rope.settings, notice, config.adapter.on());
    if (model.config.adapter && from.empty())
      fail(ExitCode::kUsage,
           "model.base {} is an adapter, in the configuration, merge it first (carillon export … format=hf), or name "
           "its base here and it in adapter.base",
           *config.model.base);
  } else {
    if (config.adapter.base)
      fail(ExitCode::kUsage, "adapter.base belongs to a model, in the configuration, name that in model.base");
    model.config = parse_model_config(config.model.config_json(), "the configuration's model:", ExitCode::kUsage);
    static_cast<ModelRope&>(model.config) = merge_model_rope(model.config, config.rope.settings, "rope");
    note_remarks(world, model.config, config.rope.settings, notice);
  }
  model.config.adapter = adapter_of(config, model.config, model.source.get());
  if (model.config.adapter && model.config.rope.type == RopeType::kClex &&
      !(model.source && has_learned_rotation(*model.source)))
    fail(ExitCode::kUsage,
         "rope type clex is learned with a model's weights, and beside an adapter those are frozen, in the "
         "configuration, train without an adapter first, or use another rope.type");
  require_possible_sizes(model.config, config);
  return model;
}

AdapterConfig adapter_of(const RunConfig& config, const ModelConfig& model, const ModelSource* source) {
  if (!config.adapter.on()) return {};
  AdapterConfig adapter =
      config.adapter.base ? adapter_in(*source, model) : new_adapter(model, config.adapter.settings());
  adapter.dropout = config.adapter.dropout.value_or(adapter.dropout);
  adapter.base_quantization = config.adapter.base_quantization.value_or(Quantization::kNone);
  return adapter;
}

namespace {

// Loads the quantised weights, one at a time on the host; returns their names.
std::set<std::string> load_quantized(Communicator& world, Backend& backend, const ModelSource& source,
                                     Parameters& parameters, Which which, Communicator* tp) {
  std::set<std::string> names;
  std::vector<float> values;
  parameters.for_each([&](Parameter& parameter) {
    if (!parameter.quantized || which == Which::kTrained) return;
    CHECK(tp != nullptr, "quantised weights are loaded for training");
    agree(world, [&] {
      throw_if_stop_requested("loading a model");
      const WorkingOn here(source.path());
      const Rectangle& part = parameter.rectangle;
      values.assign(static_cast<size_t>(part.count()), 0);
      std::vector<NamedShard> shard{
          {"model/" + parameter.name, part, Tensor::of(values, {part.extent[0], part.extent[1]}), true, nullptr}};
      source.read(shard);
    });
    Parameters::quantize(backend, *tp, parameter, values);
    names.insert(parameter.name);
  });
  return names;
}

}  // namespace

void load_weights(Communicator& world, Backend& backend, ModelSource& source, Parameters& parameters,
                  const Notice& notice, Which which, Communicator* tp) {
  const Activity activity("loading the model");
  std::set<std::string> known = load_quantized(world, backend, source, parameters, which, tp);
  agree(world, [&] {
    throw_if_stop_requested("loading a model");
    const WorkingOn here(source.path());
    std::vector<NamedShard> shards = parameters.weight_shards(backend, true, which);
    // A new rotation's weights are in no file yet; open_model() refuses a model that needs them.
    if (!has_learned_rotation(source))
      std::erase_if(shards, [](const NamedShard& shard) {
        return shard.name == std::string("model/") + kOdeUp || shard.name == std::string("model/") + kOdeDown;
      });
    source.read(shards);
    for (const NamedShard& shard : shards) known.insert(shard.name.substr(std::string("model/").size()));
    std::string unknown;
    int more = 0;
    for (const std::string& name : source.tensor_names()) {
      if (known.contains(name) || is_adapter_tensor(name) || name.ends_with("rotary_emb.inv_freq")) continue;
      // Some writers store a tied head anyway.
      if (name == "lm_head.weight") continue;
      if (unknown.empty())
        unknown = name;
      else
        ++more;
    }
    if (!unknown.empty())
      notice(fmt::format("{} holds tensors this architecture has no use for: {}{}", source.path(), unknown,
                         more > 0 ? fmt::format(" and {} more", more) : ""));
  });
}

std::unique_ptr<Tokenizer> open_tokenizer(Communicator& world, const std::string& path, ModelSource* source) {
  std::unique_ptr<Tokenizer> tokenizer;
  agree(world, [&] {
    if (!path.empty())
      tokenizer = Tokenizer::open(path);
    else if (source != nullptr)
      tokenizer = source->tokenizer();
  });
  require_same_text(world, tokenizer ? "the tokenizer " + tokenizer->path() : "the model's tokenizer",
                    tokenizer ? fmt::format("{:016x} {}", tokenizer->hash(), tokenizer->eos().value_or(-1u)) : "none");
  return tokenizer;
}

}  // namespace carillon
