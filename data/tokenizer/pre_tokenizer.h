// How a text is cut into words before byte pairs are merged inside each: the "pre_tokenizer" of tokenizer.json.
// Steps form a chain; each takes a piece and hands its parts on, so no list of pieces is ever held.
//
//   Split      a pattern (regular expression or string); matches are pieces of their own, removed, or joined to a
//   neighbour Digits     numeric characters one by one, or in runs ByteLevel  GPT-2's pattern (unless use_regex is
//   false), then every byte becomes a printable character: bytes 33-126,
//              161-172, 174-255 stand for themselves, the other 68, in order, become U+0100, U+0101, …
//   Metaspace  spaces become U+2581, words begin with it
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "data/tokenizer/word_splitter.h"

namespace carillon {

class PreTokenizer {
 public:
  using Sink = std::function<void(std::string_view piece)>;
  virtual ~PreTokenizer() = default;
  // Calls sink with the pieces of `text`, in order, none empty. at_start: nothing of the document precedes `text`.
  virtual void split(std::string_view text, bool at_start, const Sink& sink) const = 0;

  // What it does, where that is to cut with a known pattern, to write every byte as ByteLevel does, or both in this
  // order, and nothing else: then words can be looked up as they stand in the text.
  struct Known {
    std::optional<WordSplitter> splitter;
    bool maps_bytes = false;
  };
  virtual Known known() const { return {}; }

  // From the JSON object (null: the text is one piece). Error 65 naming a type that is not supported.
  static std::unique_ptr<PreTokenizer> make(const nlohmann::json& description, const std::string& where);
};

// ByteLevel's map: the character (UTF-8) of each byte, and back (−1: not in the map).
const std::array<std::string, 256>& byte_level_characters();
int byte_of_character(int32_t code_point);

}  // namespace carillon
