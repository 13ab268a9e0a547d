// The named rope settings of a sweep and of evaluations in training: {own: {}, long: {type: yarn, factor: 4}}.
#pragma once

#include <string>

#include "launch/config/schema.h"

namespace carillon {

// Returns the settings by name, each an object (null is {}). `name` is the key that they are given for. Error 64, with
// the place and the nearest known key, for anything that the section `rope:` of a run would not take; the names that
// Hugging Face has for type and base are allowed.
Json read_rope_settings(const std::string& name, const YamlNode& node);

}  // namespace carillon
