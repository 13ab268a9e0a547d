// What stands beside a tokenizer: tokenizer_config.json, special_tokens_map.json, added_tokens.json; and config.json
// and generation_config.json, which name end tokens by id.
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

// A JSON object; an empty one of an empty text. Error 65 for anything else.
nlohmann::json parse_token_configuration(const std::string& text, const std::string& where);
// A token written as a text, or as an object with the text as `content`; "" for anything else.
std::string token_content(const nlohmann::json& token);
// An id written in decimal digits. Error 65.
uint32_t token_id_of_text(const std::string& digits, const std::string& where);

// The ids at which generation ends: `eos_token_id` of generation_config.json, one or a list; empty where it has none.
// Error 65 for a text that is no JSON object.
std::vector<int64_t> generation_end_tokens(const std::string& text, const std::string& where);

// The texts of the three files that speak of tokens; empty where there is none.
struct TokenFiles {
  std::string tokenizer_config, special_tokens_map, added_tokens;
  // Of a tokenizer's files by name.
  static TokenFiles of(const std::map<std::string, std::string>& files);
  bool empty() const { return tokenizer_config.empty() && special_tokens_map.empty() && added_tokens.empty(); }
};

// What they say together, as transformers 5.24 reads them. A tokenizer_config.json with `added_tokens_decoder` is
// complete, and the other two are left unread. Beside an older one special_tokens_map.json comes first for whatever it
// names, and added_tokens.json has the ids of the added tokens.
class TokenConfiguration {
 public:
  // `beside`: what they lie beside, for messages. Error 65 for a file that is no JSON object.
  TokenConfiguration(const TokenFiles& files, std::string beside);

  // Whether tokenizer_config.json is.
  bool is_complete() const { return config_.contains("added_tokens_decoder"); }

  // A setting of tokenizer_config.json; `otherwise` where it is absent or no boolean.
  bool flag(const char* key, bool otherwise) const;
  // The text of a token by its name (`bos_token`); "" where there is none.
  std::string token(const char* key) const;
  // All of these names with their texts: bos_token, eos_token and whatever else ends so (`image_token`), and the
  // entries of `extra_special_tokens` where those have names.
  std::vector<std::pair<std::string, std::string>> named_tokens() const;
  // `additional_special_tokens` (today `extra_special_tokens`) where they have none.
  std::vector<std::string> unnamed_tokens() const;

  // Tokens that are sought in the text, by their ids. Error 65 for an id or an entry that is none.
  std::vector<AddedToken> added_tokens() const;
  // The named and unnamed ones to which `id_of` gives an id: sought in the text too, and special.
  std::vector<AddedToken> special_tokens(const std::function<std::optional<uint32_t>(std::string_view)>& id_of) const;

 private:
  const nlohmann::json& unnamed() const;

  nlohmann::json config_;  // special_tokens_map.json is part of it already
  nlohmann::json added_;
  std::string where_;
};

// Looks for the end-of-document token in the files beside a tokenizer, in this order.
class EndTokenSearch {
 public:
  explicit EndTokenSearch(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  // `text` of a file that has `eos_token`, resp. `eos_token_id` (the first of a list; also in text_config).
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
