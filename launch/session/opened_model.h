// A model that `model=` or `model.base` names, opened on every rank, its rope merged with the one asked for.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "data/formats/model_source.h"
#include "data/tokenizer/tokenizer.h"
#include "launch/config/run_config.h"
#include "model/config.h"
#include "model/parameters.h"
#include "parallel/transport/communicator.h"

namespace carillon {

using Notice = std::function<void(const std::string&)>;  // takes one line for the person who started the run

struct OpenedModel {
  std::unique_ptr<ModelSource> source;
  ModelConfig config;
  // With an adapter: where its base is, and content_hash of that; what a checkpoint keeps of it.
  std::string base_path, base_hash;
};

// Collective over world in its errors only (agree). `rope`: settings merged over the model's own. `adapter`: one to put
// beside the model; a path that is an adapter itself brings its base along. Error 65 where that base is another one
// than a run trained its adapter on.
OpenedModel open_model(Communicator& world, const std::string& path, const Json& rope, const Notice& notice,
                       const std::string& adapter = "");

// The run's model: `model.base` opened, or the geometry given (then without a source), with the adapter that the run
// trains, new or going on from another. Collective in its errors.
OpenedModel open_run_model(Communicator& world, const RunConfig& config, const Notice& notice);
// The adapter that `config` asks for, on `model`; none without. `source` of adapter.base, where there is one.
AdapterConfig adapter_of(const RunConfig& config, const ModelConfig& model, const ModelSource* source);

// Fills the parameters' weights, converted to their type: all of them, or the model's own. Error 65 naming a tensor
// that is missing or has another shape; one notice for tensors the network has no use for. Collective over world in its
// errors; where weights are quantised over `tp` too.
void load_weights(Communicator& world, Backend& backend, ModelSource& source, Parameters& parameters,
                  const Notice& notice, Which which = Which::kAll, Communicator* tp = nullptr);

// The tokenizer at `path`, or where `path` is empty the source's own; nothing when the source (may be null) has none.
std::unique_ptr<Tokenizer> open_tokenizer(Communicator& world, const std::string& path, ModelSource* source);

}  // namespace carillon
