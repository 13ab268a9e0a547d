#include "launch/session/opened_model.h"

#include <set>

#include "data/files/same_files.h"
#include "data/formats/fused_source.h"
#include "launch/session/model_tensors.h"
#include "launch/session/run_checks.h"
#include "launch/session/same_inputs.h"
#include "runtime/foreign_error.h"
#include "runtime/progress.h"
#include "runtime/stop_request.h"

namespace carillon {

OpenedModel open_model(Communicator& world, const std::string& path, const Json& rope, const Notice& notice) {
  const Activity activity("opening the model");
  OpenedModel model;
  // One rank finds the checkpoint that is meant and verifies it; all read that one.
  std::string resolved;
  agree(world, [&] {
    if (world.rank() == 0) resolved = resolve_model_path(path, notice);
  });
  resolved = broadcast_text(world, resolved);
  require_same_model(world, resolved);
  agree(world, [&] {
    const WorkingOn here(resolved);
    model.source = ModelSource::open(resolved);
    const std::string where = model.source->path();
    model.config = parse_model_config(model.source->config_json(), where);
    if (world.rank() == 0)
      for (const std::string& line : model.source->notices()) notice(line);
    model.source = split_source(std::move(model.source), fused_tensors(model.config));
    model.source->require(tensors_of(model.config, *model.source));
    static_cast<ModelRope&>(model.config) = merge_model_rope(model.config, rope, "rope");
  });
  if (world.rank() == 0)
    for (const std::string& remark : model.config.remarks) notice(remark);
  return model;
}

OpenedModel open_run_model(Communicator& world, const RunConfig& config, const Notice& notice) {
  if (config.model.base) {
    OpenedModel opened = open_model(world, *config.model.base, config.rope.settings, notice);
    require_possible_sizes(opened.config, config);
    return opened;
  }
  OpenedModel model;
  model.config = parse_model_config(config.model.config_json(), "the configuration's model:", ExitCode::kUsage);
  static_cast<ModelRope&>(model.config) = merge_model_rope(model.config, config.rope.settings, "rope");
  require_possible_sizes(model.config, config);
  return model;
}

void load_weights(Communicator& world, Backend& backend, ModelSource& source, Parameters& parameters,
                  const Notice& notice) {
  const Activity activity("loading the model");
  agree(world, [&] {
    stop_point("loading a model");
    const WorkingOn here(source.path());
    std::vector<NamedShard> shards = parameters.weight_shards(backend, true);
    source.read(shards);
    std::set<std::string> known;
    for (const NamedShard& shard : shards) known.insert(shard.name.substr(std::string("model/").size()));
    std::string unknown;
    int more = 0;
    for (const std::string& name : source.tensor_names()) {
      if (known.contains(name) || name.ends_with("rotary_emb.inv_freq")) continue;
      // A tied head is stored by some writers all the same.
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
