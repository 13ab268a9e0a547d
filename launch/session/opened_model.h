// The model that `model=` or `model.base` names, opened on every rank, with the requested rope merged into its own.
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

using Notice = std::function<void(const std::string&)>;  // receives one line for the user

struct OpenedModel {
  std::unique_ptr<ModelSource> source;
  ModelConfig config;
  // With an adapter: the base's path and its content_hash, as recorded in checkpoints.
  std::string base_path, base_hash;
};

// `rope`: settings merged over the model's own. `adapter`: an adapter to apply to the model; if `path` is itself an
// adapter, its base is opened with it. Fails with error 65 if that base differs from the one the adapter was trained
// on. Over `world`, only the error handling is collective (agree).
OpenedModel open_model(Communicator& world, const std::string& path, const Json& rope, const Notice& notice,
                       const std::string& adapter = "");

// Opens the run's model: `model.base`, or the configured geometry (then without a source), with the adapter that the
// run trains, whether new or continued from adapter.base. The error handling is collective.
OpenedModel open_run_model(Communicator& world, const RunConfig& config, const Notice& notice);
// Returns the adapter that `config` requests for `model`; an empty one if none. `source`: of adapter.base, if that is
// set.
AdapterConfig adapter_of(const RunConfig& config, const ModelConfig& model, const ModelSource* source);

// Loads weights into the parameters, converted to their type: all of them, or those that `which` selects. Fails with
// error 65 naming a tensor that is missing or has another shape. Gives one notice for tensors that the network does not
// use. The error handling is collective over `world`; with quantised weights the call is also collective over `tp`.
void load_weights(Communicator& world, Backend& backend, ModelSource& source, Parameters& parameters,
                  const Notice& notice, Which which = Which::kAll, Communicator* tp = nullptr);

// Opens the tokenizer at `path`, or the source's own if `path` is empty. Returns null if the source (may be null) has
// none.
std::unique_ptr<Tokenizer> open_tokenizer(Communicator& world, const std::string& path, ModelSource* source);

}  // namespace carillon
