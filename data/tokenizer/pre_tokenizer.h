// Splits a text into words, inside which byte pairs are then merged: the "pre_tokenizer" of tokenizer.json. Steps form
// a chain. Each takes a piece and passes its parts on, so that the pieces of a text are never all in memory.
//
//   Split               a pattern (regular expression or string); the behaviour determines what happens to matches
//   Digits              numeric characters one by one, or in runs
//   Punctuation         punctuation marks, with a behaviour
//   ByteLevel           GPT-2's pattern (unless use_regex is false), then every byte becomes a printable character:
//                       bytes 33-126, 161-172, 174-255 stand for themselves, the other 68, in order, become U+0100, …
//   Metaspace           spaces become U+2581, words begin with it
//   Whitespace          words and runs of other characters; white space is removed
//   WhitespaceSplit, CharDelimiterSplit   split at white space, at a character
//   BertPreTokenizer    split at white space and at punctuation marks
//   FixedLength         pieces of a fixed number of characters
//   UnicodeScripts      split where another script begins
//   Sequence            one after another
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
  // A part of the text that the first step received: its bytes [begin, end) in that text, and their present form.
  // `begin` and `end` are exact unless a step changed the text and a later one split it.
  struct Piece {
    std::string_view text;
    size_t begin, end;
    static Piece whole(std::string_view text) { return {text, 0, text.size()}; }
    // Bytes [from, to) of `text`.
    Piece part(size_t from, size_t to) const;
  };
  using Sink = std::function<void(const Piece& piece)>;
  virtual ~PreTokenizer() = default;
  // Calls sink with the non-empty pieces of `piece`, in order. at_start: whether the document begins here.
  virtual void split(const Piece& piece, bool at_start, const Sink& sink) const = 0;

  // Describes a pre-tokenizer that only splits with a known pattern, maps every byte as ByteLevel does, or both in this
  // order. Words can then be looked up in the original text.
  struct Known {
    std::optional<WordSplitter> splitter;
    bool maps_bytes = false;
  };
  virtual Known known() const { return {}; }
  // Whether any step maps bytes to characters.
  virtual bool maps_bytes() const { return false; }

  // Makes it from the JSON object (null: the text is one piece). Error 65 naming a type that is not supported.
  static std::unique_ptr<PreTokenizer> make(const nlohmann::json& description, const std::string& where);
};

// ByteLevel's map: the character (UTF-8) of each byte, and the reverse (−1: not in the map).
const std::array<std::string, 256>& byte_level_characters();
int byte_of_character(int32_t code_point);

}  // namespace carillon
