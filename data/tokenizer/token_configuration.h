// What stands beside a tokenizer: tokenizer_config.json, special_tokens_map.json, added_tokens.json; and config.json
// and generation_config.json, which name end tokens by id.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace carillon {

class Tokenizer;

// A JSON object; an empty one of an empty text. Error 65 for anything else.
nlohmann::json parse_token_configuration(const std::string& text, const std::string& where);
// A token written as a text, or as an object with the text as `content`; "" for anything else.
std::string token_content(const nlohmann::json& token);
// An id written in decimal digits. Error 65.
uint32_t token_id_of_text(const std::string& digits, const std::string& where);

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
