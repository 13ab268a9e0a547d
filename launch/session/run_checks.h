// Finds errors of a run's configuration before anything is opened or allocated.
#pragma once

#include <optional>
#include <string>

#include "launch/config/run_config.h"
#include "model/config.h"

namespace carillon {

// Fails with error 64 if `ranks` ranks cannot run the configured layout: the grid, the pieces of the sequence, and the
// heads if the configuration gives the geometry.
void require_layout(const RunConfig& config, int ranks);
// Fails with error 64 if sizes exceed any possible machine, alone or combined: derived counts would overflow their
// integers or take forever to iterate over.
void require_possible_sizes(const ModelConfig& model, const RunConfig& config);

// Applies the bound of 2405.14591 to the model's rotation for sequences of `length` tokens. Returns nothing if keys
// similar to the query score above random ones at every distance that the layers see, otherwise one line for the user.
std::optional<std::string> base_bound_warning(const ModelConfig& model, int64_t length);

}  // namespace carillon
