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
};

// Collective over world in its errors only (agree). `rope`: settings merged over the model's own.
OpenedModel open_model(Communicator& world, const std::string& path, const Json& rope, const Notice& notice);

// The run's model: `model.base` opened, or the geometry given (then without a source). Collective in its errors.
OpenedModel open_run_model(Communicator& world, const RunConfig& config, const Notice& notice);

// Fills the parameters' weights, converted to their type. Error 65 naming a tensor that is missing or has another
// shape; one notice for tensors the network has no use for. Collective over world in its errors.
void load_weights(Communicator& world, Backend& backend, ModelSource& source, Parameters& parameters,
                  const Notice& notice);

// The tokenizer at `path`, or where `path` is empty the source's own; nothing when the source (may be null) has none.
std::unique_ptr<Tokenizer> open_tokenizer(Communicator& world, const std::string& path, ModelSource* source);

}  // namespace carillon
