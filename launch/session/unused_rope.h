// Settings of `rope:` that were given but that the type of rotation does not use.
#pragma once

#include "launch/session/opened_model.h"

namespace carillon {

// Tells `notice` of each, once. `given` are the overrides, `model` what they led to.
void note_unused_rope(const Json& given, const RopeConfig& model, const Notice& notice);

}  // namespace carillon
