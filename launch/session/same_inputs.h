// What every rank reads by itself must be the same everywhere (data/files/same_files.h): the words of the command line,
// configuration files, models and tokenizers. Training data and a task's documents are compared where they are opened.
#pragma once

#include <string>
#include <vector>

#include "parallel/transport/communicator.h"

namespace carillon {

// The words a command was started with, and the configuration files among them. Collective; error 65 naming two ranks.
void require_same_command(Communicator& world, const std::vector<std::string>& words,
                          const std::vector<std::string>& files);

// Everything that a model at `path` (resolved, the same on every rank) is read from: the model file, a checkpoint's
// state and manifest, or a folder's weights, configuration and tokenizer. Collective; error 65 naming file and ranks.
void require_same_model(Communicator& world, const std::string& path);

}  // namespace carillon
