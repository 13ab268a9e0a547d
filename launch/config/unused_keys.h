// Keys of a run that are given but change nothing, because what they belong to is off. A run goes on without them; the
// user is told, because a typing mistake or a forgotten switch is likely.
#pragma once

#include <string>
#include <vector>

#include "launch/config/run_config.h"

namespace carillon {

// Returns a line for each such key with a value other than its default: a resolved configuration, which lists every
// key, gives none. `schema`: after its keys were set, with `config` as their target.
std::vector<std::string> unused_keys(const Schema& schema, const RunConfig& config);

}  // namespace carillon
