#include "data/tokenizer/token_configuration.h"

#include <charconv>

#include "data/tokenizer/tokenizer.h"
#include "runtime/error.h"

namespace carillon {

using Json = nlohmann::json;

Json parse_token_configuration(const std::string& text, const std::string& where) {
  if (text.empty()) return Json::object();
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded() || !json.is_object())
    fail(ExitCode::kBadInput, "is no JSON object, {}, fetch it again", where);
  return json;
}

std::string token_content(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object() && token.contains("content") && token.at("content").is_string())
    return token.at("content").get<std::string>();
  return "";
}

uint32_t token_id_of_text(const std::string& digits, const std::string& where) {
  uint32_t id = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, id);
  if (error != std::errc() || stop != end || digits.empty() || id >= uint32_t{1} << 31)
    fail(ExitCode::kBadInput, "the id of an added token is '{}', {}, ids are integers from 0", digits, where);
  return id;
}

void EndTokenSearch::note(const std::string& name, const std::string& finding) {
  looked_at_ += (looked_at_.empty() ? "" : ", ") + name + " (" + finding + ")";
}

void EndTokenSearch::look_at_tokens(const std::string& name, const std::string& text, const std::string& where) {
  if (found_) return;
  if (text.empty()) return note(name, "absent");
  const Json json = parse_token_configuration(text, where);
  const std::string token = json.contains("eos_token") ? token_content(json.at("eos_token")) : "";
  if (token.empty()) return note(name, "no eos_token");
  found_ = tokenizer_.id_of(token);
  if (!found_) note(name, "its eos_token '" + token + "' is no token");
}

void EndTokenSearch::look_at_ids(const std::string& name, const std::string& text, const std::string& where) {
  if (found_) return;
  if (text.empty()) return note(name, "absent");
  const Json json = parse_token_configuration(text, where);
  Json id = json.value("eos_token_id", Json());
  if (id.is_null() && json.contains("text_config") && json.at("text_config").is_object())
    id = json.at("text_config").value("eos_token_id", Json());
  if (id.is_array()) id = id.empty() ? Json() : Json(id.front());
  if (id.is_null()) return note(name, "no eos_token_id");
  if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(tokenizer_.vocabulary()))
    return note(name, "its eos_token_id " + id.dump() + " is no token");
  found_ = id.get<uint32_t>();
}

}  // namespace carillon
