// The parsers of data/ and model/.
#include <nlohmann/json.hpp>

#include "runtime/foreign_error.h"
#include "tests/fuzz/formats_targets.h"

namespace carillon::fuzz {

// Does what launch/commands/foreign_exceptions.cpp does, which this program does not link.
void begin() {
  register_foreign_exceptions([](const std::exception& exception, const std::string& place) -> std::optional<Error> {
    if (dynamic_cast<const nlohmann::json::exception*>(&exception) == nullptr) return std::nullopt;
    return Error(ExitCode::kBadInput, fmt::format("JSON of another kind ({}), {}", printable(exception.what()), place));
  });
}

std::vector<Target> targets() {
  std::vector<Target> all = formats_targets();
  for (Target& target : text_targets()) all.push_back(std::move(target));
  return all;
}

}  // namespace carillon::fuzz
