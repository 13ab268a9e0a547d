#include "launch/config/early_patience.h"

#include <filesystem>
#include <optional>
#include <string_view>

#include "launch/config/values.h"
#include "launch/config/yaml.h"
#include "runtime/error.h"
#include "runtime/progress.h"

namespace carillon {
namespace {

std::optional<double> patience_of_file(const std::string& path) {
  try {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) return std::nullopt;  // a pipe can be read only once
    const YamlNode document = parse_yaml_file(path);
    const YamlNode* runtime = document.kind == YamlNode::Kind::kMapping ? document.find("runtime") : nullptr;
    if (runtime == nullptr || runtime->kind != YamlNode::Kind::kMapping) return std::nullopt;
    const YamlNode* patience = runtime->find("patience");
    return patience == nullptr ? std::nullopt : parse_duration(patience->text);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

void set_patience_early(int count, char** arguments) {
  constexpr std::string_view kKey = "runtime.patience=";
  std::optional<double> found;
  for (int i = 1; i < count && !found; ++i)
    if (const std::string_view word = arguments[i]; word.starts_with(kKey))
      found = parse_duration(word.substr(kKey.size()));
  for (int i = 1; i < count && !found; ++i)
    if (const std::string_view word = arguments[i]; word.ends_with(".yaml") || word.ends_with(".yml"))
      found = patience_of_file(std::string(word));
  if (found) set_patience(*found);
}

}  // namespace carillon
