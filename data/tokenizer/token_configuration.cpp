#include "data/tokenizer/token_configuration.h"

#include <algorithm>
#include <charconv>

#include "data/tokenizer/tokenizer.h"
#include "runtime/json_fields.h"
#include "runtime/parse_json.h"

namespace carillon {

nlohmann::json parse_token_configuration(const std::string& text, const std::string& where) {
  if (text.empty()) return nlohmann::json::object();
  auto json = parse_json<nlohmann::json>(text, where);
  if (!json.is_object()) fail(ExitCode::kBadInput, "is not a JSON object, {}, fetch it again", where);
  return json;
}

std::string token_content(const nlohmann::json& token) {
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

std::vector<int64_t> generation_end_tokens(const std::string& text, const std::string& where) {
  nlohmann::json ids = parse_token_configuration(text, where).value("eos_token_id", nlohmann::json());
  if (!ids.is_array()) ids = nlohmann::json::array({ids});
  std::vector<int64_t> tokens;
  for (const nlohmann::json& id : ids)
    if (const auto token = integer_of(id); token && *token >= 0) tokens.push_back(*token);
  return tokens;
}

namespace {

// A token written as an object has its own flags. Otherwise, a special token is found in the original text, any other
// in the normalised text.
AddedToken token_of(const nlohmann::json& item, uint32_t id, bool special) {
  const auto flag = [&](const char* key, bool otherwise) {
    return item.is_object() && item.contains(key) && item.at(key).is_boolean() ? item.at(key).get<bool>() : otherwise;
  };
  AddedToken token;
  token.id = id;
  token.content = token_content(item);
  token.special = special || flag("special", false);
  token.normalized = flag("normalized", !token.special);
  token.single_word = flag("single_word", false);
  token.lstrip = flag("lstrip", false);
  token.rstrip = flag("rstrip", false);
  return token;
}

bool is_named(const std::string& key) { return key.ends_with("_token"); }

}  // namespace

TokenFiles TokenFiles::of(const std::map<std::string, std::string>& files) {
  const auto text = [&](const char* name) {
    const auto found = files.find(name);
    return found == files.end() ? "" : found->second;
  };
  return {text("tokenizer_config.json"), text("special_tokens_map.json"), text("added_tokens.json")};
}

TokenConfiguration::TokenConfiguration(const TokenFiles& files, std::string beside)
    : where_(" beside " + std::move(beside)) {
  config_ = parse_token_configuration(files.tokenizer_config, "tokenizer_config.json" + where_);
  if (is_complete()) return;
  const nlohmann::json map = parse_token_configuration(files.special_tokens_map, "special_tokens_map.json" + where_);
  for (const auto& [key, value] : map.items()) config_[key] = value;
  added_ = parse_token_configuration(files.added_tokens, "added_tokens.json" + where_);
}

bool TokenConfiguration::flag(const char* key, bool otherwise) const {
  const auto found = config_.find(key);
  return found != config_.end() && found->is_boolean() ? found->get<bool>() : otherwise;
}

std::string TokenConfiguration::token(const char* key) const {
  const auto found = config_.find(key);
  return found == config_.end() ? "" : token_content(*found);
}

const nlohmann::json& TokenConfiguration::unnamed() const {
  static const nlohmann::json none;
  for (const char* key : {"extra_special_tokens", "additional_special_tokens"})
    if (const auto found = config_.find(key); found != config_.end() && !found->empty()) return *found;
  return none;
}

std::vector<std::pair<std::string, std::string>> TokenConfiguration::named_tokens() const {
  static const std::vector<std::string> kUsual = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                  "pad_token", "cls_token", "mask_token"};
  std::vector<std::pair<std::string, std::string>> tokens;
  for (const std::string& key : kUsual)
    if (const std::string text = token(key.c_str()); !text.empty()) tokens.emplace_back(key, text);
  for (const auto& [key, value] : config_.items())
    if (is_named(key) && std::find(kUsual.begin(), kUsual.end(), key) == kUsual.end() && !token_content(value).empty())
      tokens.emplace_back(key, token_content(value));
  if (unnamed().is_object())
    for (const auto& [key, value] : unnamed().items())
      if (!token_content(value).empty()) tokens.emplace_back(key, token_content(value));
  return tokens;
}

std::vector<std::string> TokenConfiguration::unnamed_tokens() const {
  std::vector<std::string> tokens;
  if (unnamed().is_array())
    for (const nlohmann::json& token : unnamed())
      if (!token_content(token).empty()) tokens.push_back(token_content(token));
  return tokens;
}

std::vector<AddedToken> TokenConfiguration::added_tokens() const {
  std::vector<AddedToken> tokens;
  if (const auto decoder = config_.find("added_tokens_decoder"); decoder != config_.end()) {
    const std::string where = "tokenizer_config.json" + where_;
    if (!decoder->is_object())
      fail(ExitCode::kBadInput, "added_tokens_decoder is not an object, {}, write the tokens by their ids", where);
    for (const auto& [id, item] : decoder->items()) {
      tokens.push_back(token_of(item, token_id_of_text(id, where), false));
      if (tokens.back().content.empty())
        fail(ExitCode::kBadInput, "added_tokens_decoder has no text for id {}, {}, write it as `content`", id, where);
    }
  }
  const auto named = named_tokens();
  const auto unnamed = unnamed_tokens();
  for (const auto& [content, id] : added_.items()) {
    const std::string& text = content;
    const bool special =
        std::find(unnamed.begin(), unnamed.end(), text) != unnamed.end() ||
        std::any_of(named.begin(), named.end(), [&](const auto& token) { return token.second == text; });
    tokens.push_back(token_of(content, token_id_of_text(id.dump(), "added_tokens.json" + where_), special));
  }
  std::stable_sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return tokens;
}

std::vector<AddedToken> TokenConfiguration::special_tokens(
    const std::function<std::optional<uint32_t>(std::string_view)>& id_of) const {
  std::vector<AddedToken> tokens;
  const auto add = [&](const nlohmann::json& item) {
    const std::string content = token_content(item);
    if (content.empty()) return;
    if (const auto id = id_of(content)) tokens.push_back(token_of(item, *id, true));
  };
  for (const auto& [key, item] : config_.items())
    if (is_named(key)) add(item);
  if (unnamed().is_object() || unnamed().is_array())
    for (const nlohmann::json& item : unnamed()) add(item);
  return tokens;
}

void EndTokenSearch::note(const std::string& name, const std::string& finding) {
  looked_at_ += (looked_at_.empty() ? "" : ", ") + name + " (" + finding + ")";
}

void EndTokenSearch::look_at_tokens(const std::string& name, const std::string& text, const std::string& where) {
  if (found_) return;
  if (text.empty()) return note(name, "absent");
  const nlohmann::json json = parse_token_configuration(text, where);
  const std::string token = json.contains("eos_token") ? token_content(json.at("eos_token")) : "";
  if (token.empty()) return note(name, "no eos_token");
  found_ = tokenizer_.id_of(token);
  if (!found_) note(name, "its eos_token '" + token + "' is not a token");
}

void EndTokenSearch::look_at_ids(const std::string& name, const std::string& text, const std::string& where) {
  if (found_) return;
  if (text.empty()) return note(name, "absent");
  const nlohmann::json json = parse_token_configuration(text, where);
  nlohmann::json id = json.value("eos_token_id", nlohmann::json());
  if (id.is_null() && json.contains("text_config") && json.at("text_config").is_object())
    id = json.at("text_config").value("eos_token_id", nlohmann::json());
  if (id.is_array()) id = id.empty() ? nlohmann::json() : nlohmann::json(id.front());
  if (id.is_null()) return note(name, "no eos_token_id");
  if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(tokenizer_.vocabulary()))
    return note(name, "its eos_token_id " + id.dump() + " is not a token");
  found_ = id.get<uint32_t>();
}

}  // namespace carillon
