// What can be found wrong with a run before anything is opened or allocated.
#pragma once

#include <optional>
#include <string>

#include "launch/config/run_config.h"
#include "model/config.h"

namespace carillon {

// Error 64 when `ranks` ranks cannot run it as it is laid out: the grid, the sequence's pieces, and the heads of a
// geometry that is in the configuration.
void require_layout(const RunConfig& config, int ranks);
// Error 64 when the sizes are beyond any machine's, alone or together: counts derived from them would not fit their
// integers, or take for ever to go through.
void require_possible_sizes(const ModelConfig& model, const RunConfig& config);

// What 2405.14591 says of the model's rotation in sequences of so many tokens: nothing where like keys score above
// random ones at every distance that layers see, else one line for people.
std::optional<std::string> base_bound_warning(const ModelConfig& model, int64_t length);

}  // namespace carillon
