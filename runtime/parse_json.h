// All parsing of JSON. nlohmann's parser has no limits: it reads a value nested a hundred thousand levels deep, and
// then walking, printing or freeing it overflows the stack; a number out of a double's range throws a different
// exception than other faults; a name may occur twice. Here each of these is reported as one kind of error, with its
// place.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/error.h"

namespace carillon {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  int depth = 64;  // nesting of arrays and objects; no format we read is deeper than 12
  int64_t bytes = int64_t{256} << 20;
  // Names in one object. ordered_json searches names linearly, so n names cost n² steps; to read larger objects, parse
  // into nlohmann::json (ParsedJson), which keeps them sorted. 0: no limit.
  int64_t keys = 20'000;
  bool unique_keys = false;  // whether to refuse a name that occurs twice in one object
};

// Checks only depth, bytes and keys, by counting brackets: for text that other code will parse. Throws error `code`.
void check_json_limits(std::string_view text, const std::string& where, ExitCode code = ExitCode::kBadInput,
                       const JsonLimits& limits = {});

// Parses `text`. Throws error `code` (by default 65), "WHAT is wrong, WHERE, …", if the text is not JSON, exceeds a
// limit, or contains a number out of a double's range. ParsedJson is ordered_json or nlohmann::json; for the latter
// limits.keys is ignored.
template <class ParsedJson = Json>
ParsedJson parse_json(std::string_view text, const std::string& where, ExitCode code = ExitCode::kBadInput,
                      const JsonLimits& limits = {});

// Like parse_json(), but returns nothing instead of throwing.
std::optional<Json> try_parse_json(std::string_view text, const JsonLimits& limits = {});

}  // namespace carillon
