// The part of `carillon rope` that needs a model: `carillon rope search CONFIG.yaml`.
#pragma once

#include <string>

#include "launch/commands/commands.h"

namespace carillon {

// line.files: "search" and the configuration.
ExitCode run_rope_search(Program& program, const CommandLine& line);
std::string help_rope_search();

}  // namespace carillon
