// Checks that what every rank reads by itself is the same everywhere (data/files/same_files.h): command-line arguments,
// configuration files, models and tokenizers. Training data and a task's documents are compared where they are opened.
#pragma once

#include <string>
#include <vector>

#include "parallel/transport/communicator.h"

namespace carillon {

// Compares the command-line arguments, and the configuration files among them. Collective. Fails with error 65 naming
// two ranks.
void require_same_command(Communicator& world, const std::vector<std::string>& words,
                          const std::vector<std::string>& files);

// Compares everything that a model at `path` (resolved, the same on every rank) is read from: the model file, a
// checkpoint's state and manifest, or a folder's weights, configuration and tokenizer. Collective. Fails with error 65
// naming the file and the ranks.
void require_same_model(Communicator& world, const std::string& path);

}  // namespace carillon
