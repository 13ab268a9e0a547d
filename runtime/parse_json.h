// The one place where text becomes JSON. nlohmann's parser has no bounds of its own: a value nested a hundred thousand
// deep is read, and then walking, printing or freeing it runs out of stack; numbers beyond a double throw another
// exception than other faults; a name may stand twice. Here all of that is one error with a place.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/error.h"

namespace carillon {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  int depth = 64;  // of arrays and objects inside one another; no format we read goes beyond 12
  int64_t bytes = int64_t{256} << 20;
  // Names in one object: ordered_json finds a name by walking, so that n names cost n² steps. An object with more is
  // read as nlohmann::json (ParsedJson), which sorts. 0: no bound.
  int64_t keys = 20'000;
  bool unique_keys = false;  // whether a name that occurs twice in one object is refused
};

// Of these limits depth, bytes and names alone, by counting brackets: for text that somebody else will parse. Error
// `code`.
void check_json_limits(std::string_view text, const std::string& where, ExitCode code = ExitCode::kBadInput,
                       const JsonLimits& limits = {});

// Error `code` (65 unless given): "WHAT is wrong, WHERE, …" for text that is no JSON, nested too deeply, too long, with
// too many names, or that holds a number no double can hold. ParsedJson: ordered_json or nlohmann::json.
template <class ParsedJson = Json>
ParsedJson parse_json(std::string_view text, const std::string& where, ExitCode code = ExitCode::kBadInput,
                      const JsonLimits& limits = {});

// The same where a fault is only to be noticed: nothing when there is any.
std::optional<Json> try_parse_json(std::string_view text, const JsonLimits& limits = {});

}  // namespace carillon
