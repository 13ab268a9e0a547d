// The documents of `carillon score`: JSON lines with `tokens` or `text` and any `id`.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace carillon {

using Json = nlohmann::ordered_json;

struct ScoreDocument {
  Json id;                      // as given, else the 0-based number of the line
  std::vector<int32_t> tokens;  // at least one
};

// Text to tokens; called only when a line has text.
using Encode = std::function<std::vector<int32_t>(const std::string& text)>;

// All documents of a file in order; blank lines count but hold nothing. Errors: 66 no such file; 65 with file and line
// for what is not JSON, has neither tokens nor text, is empty, or has an id outside [0, vocabulary).
std::vector<ScoreDocument> read_score_documents(const std::string& path, int64_t vocabulary, const Encode& encode);

}  // namespace carillon
