// Bounds the nesting of Sequences in the parts of tokenizer.json; no file in use nests more than two.
#pragma once

#include <string>

#include "runtime/error.h"

namespace carillon {

inline void check_sequence_depth(int depth, const std::string& where) {
  constexpr int kDeepest = 16;
  if (depth > kDeepest)
    fail(ExitCode::kBadInput, "more than {} Sequences in one another, {}, write one list", kDeepest, where);
}

}  // namespace carillon
