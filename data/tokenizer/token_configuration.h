// The files next to a tokenizer: tokenizer_config.json, special_tokens_map.json and added_tokens.json; also config.json
// and generation_config.json, which give end tokens by id.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/tokenizer/added_tokens.h"

namespace carillon {

class Tokenizer;

// Parses a JSON object; an empty text gives an empty object. Error 65 for anything else.
nlohmann::json parse_token_configuration(const std::string& text, const std::string& where);
// The text of a token that is written as a text or as an object with `content`; "" for anything else.
std::string token_content(const nlohmann::json& token);
// Parses an id in decimal digits. Error 65.
uint32_t token_id_of_text(const std::string& digits, const std::string& where);

// The ids at which generation ends: `eos_token_id` of generation_config.json, one id or a list; empty if it has none.
// Error 65 if the text is not a JSON object.
std::vector<int64_t> generation_end_tokens(const std::string& text, const std::string& where);

// The texts of the three files that define tokens; empty if a file does not exist.
struct TokenFiles {
  std::string tokenizer_config, special_tokens_map, added_tokens;
  // Selects them from a tokenizer's files by name.
  static TokenFiles of(const std::map<std::string, std::string>& files);
  bool empty() const { return tokenizer_config.empty() && special_tokens_map.empty() && added_tokens.empty(); }
};

// Combines these files as transformers 5.24 does. A tokenizer_config.json with `added_tokens_decoder` is complete, and
// the other two are ignored. With an older one, special_tokens_map.json takes precedence for whatever it names, and
// added_tokens.json has the ids of the added tokens.
class TokenConfiguration {
 public:
  // `beside` names the tokenizer in messages. Error 65 for a file that is not a JSON object.
  TokenConfiguration(const TokenFiles& files, std::string beside);

  // Whether tokenizer_config.json is complete.
  bool is_complete() const { return config_.contains("added_tokens_decoder"); }

  // A setting of tokenizer_config.json; `otherwise` if it is absent or not a boolean.
  bool flag(const char* key, bool otherwise) const;
  // The text of a token by its name (`bos_token`); "" if there is none.
  std::string token(const char* key) const;
  // All names of tokens with their texts: bos_token, eos_token and other keys with this ending (`image_token`), and the
  // entries of `extra_special_tokens` if they have names.
  std::vector<std::pair<std::string, std::string>> named_tokens() const;
  // `additional_special_tokens` (now `extra_special_tokens`) if its entries have no names.
  std::vector<std::string> unnamed_tokens() const;

  // Tokens that are found in the text, by their ids. Error 65 for an invalid id or entry.
  std::vector<AddedToken> added_tokens() const;
  // The named and unnamed tokens for which `id_of` has an id; they are special and also found in the text.
  std::vector<AddedToken> special_tokens(const std::function<std::optional<uint32_t>(std::string_view)>& id_of) const;

 private:
  const nlohmann::json& unnamed() const;

  nlohmann::json config_;  // includes special_tokens_map.json
  nlohmann::json added_;
  std::string where_;
};

// Looks for the end-of-document token in the files next to a tokenizer, in the order of the calls.
class EndTokenSearch {
 public:
  explicit EndTokenSearch(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  // `text` is the content of a file with `eos_token` or `eos_token_id` (the first of a list; also in text_config).
  void look_at_tokens(const std::string& name, const std::string& text, const std::string& where);
  void look_at_ids(const std::string& name, const std::string& text, const std::string& where);

  const std::optional<uint32_t>& found() const { return found_; }
  // "tokenizer_config.json (absent), config.json (no eos_token_id)"
  const std::string& looked_at() const { return looked_at_; }

 private:
  void note(const std::string& name, const std::string& finding);
  const Tokenizer& tokenizer_;
  std::optional<uint32_t> found_;
  std::string looked_at_;
};

}  // namespace carillon
