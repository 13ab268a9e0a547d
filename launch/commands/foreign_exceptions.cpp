#include "launch/commands/foreign_exceptions.h"

#include <yaml-cpp/exceptions.h>

#include <CLI/Error.hpp>
#include <nlohmann/json.hpp>

#include "runtime/foreign_error.h"

namespace carillon {
namespace {

std::string or_input(const std::string& place) { return place.empty() ? "in the input" : place; }

// Exception ids of nlohmann: 316 is text that is not UTF-8, found while writing; 406 a number beyond double.
constexpr int kNotUtf8 = 316, kBeyondDouble = 406;

std::optional<Error> of_json(const std::exception& exception, const std::string& place) {
  if (const auto* parse = dynamic_cast<const nlohmann::json::parse_error*>(&exception))
    return Error(ExitCode::kBadInput, fmt::format("is not valid JSON (at byte {}), {}, fix it or write it again",
                                                  parse->byte, or_input(place)));
  const auto* json = dynamic_cast<const nlohmann::json::exception*>(&exception);
  if (json == nullptr) return std::nullopt;
  if (json->id == kNotUtf8)
    return Error(ExitCode::kUsage, fmt::format("a name or text is not valid UTF-8 ({}), {}, write it in UTF-8",
                                               printable(json->what()), or_input(place)));
  if (json->id == kBeyondDouble)
    return Error(ExitCode::kBadInput,
                 fmt::format("a number is beyond double precision, {}, write a smaller one", or_input(place)));
  return Error(ExitCode::kBadInput, fmt::format("JSON holds something of another kind than expected ({}), {}, fix it",
                                                printable(json->what()), or_input(place)));
}

std::optional<Error> of_yaml(const std::exception& exception, const std::string& place) {
  const auto* yaml = dynamic_cast<const YAML::Exception*>(&exception);
  if (yaml == nullptr) return std::nullopt;
  return Error(ExitCode::kUsage,
               fmt::format("is not valid YAML ({}), {}, correct it", printable(yaml->what()), or_input(place)));
}

std::optional<Error> of_command_line(const std::exception& exception, const std::string&) {
  const auto* error = dynamic_cast<const CLI::Error*>(&exception);
  if (error == nullptr) return std::nullopt;
  return Error(ExitCode::kUsage, fmt::format("{}, on the command line, see carillon --help", printable(error->what())));
}

}  // namespace

void register_library_exceptions() {
  register_foreign_exceptions(of_json);
  register_foreign_exceptions(of_yaml);
  register_foreign_exceptions(of_command_line);
}

}  // namespace carillon
