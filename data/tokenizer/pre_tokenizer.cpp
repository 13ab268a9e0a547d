#include "data/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "data/tokenizer/character_set.h"
#include "data/tokenizer/pattern_split.h"
#include "data/tokenizer/sequence_depth.h"
#include "data/tokenizer/unicode.h"
#include "runtime/error.h"

namespace carillon {
namespace {

class Split : public PreTokenizer {
 public:
  Split(const nlohmann::json& description, const std::string& where)
      : pattern_(description.at("pattern"), where),
        behavior_(parse_behavior(description.at("behavior").get<std::string>(), where)),
        invert_(description.value("invert", false)) {}
  void split(const Piece& piece, bool, const Sink& sink) const override {
    pattern_.split(piece, behavior_, invert_, sink);
  }
  Known known() const override {
    return {behavior_ == Behavior::kIsolated ? pattern_.splitter() : std::nullopt, false};
  }

 private:
  Pattern pattern_;
  Behavior behavior_;
  bool invert_;
};

class Digits : public PreTokenizer {
 public:
  explicit Digits(const nlohmann::json& description) : individual_(description.value("individual_digits", false)) {}
  void split(const Piece& piece, bool, const Sink& sink) const override {
    split_at_characters(piece, individual_ ? Behavior::kIsolated : Behavior::kContiguous, sink, is_numeric);
  }

 private:
  bool individual_;
};

class Punctuation : public PreTokenizer {
 public:
  Punctuation(const nlohmann::json& description, const std::string& where)
      : behavior_(parse_behavior(description.value("behavior", "Isolated"), where)) {}
  void split(const Piece& piece, bool, const Sink& sink) const override {
    split_at_characters(piece, behavior_, sink, is_punctuation);
  }

 private:
  Behavior behavior_;
};

// Words, and runs of characters that are neither word characters nor white space. Word characters are the same as for
// added tokens.
class Whitespace : public PreTokenizer {
 public:
  void split(const Piece& piece, bool, const Sink& sink) const override {
    enum Kind { kNone, kWord, kOther };
    Kind open = kNone;
    size_t begin = 0;
    for (size_t at = 0; at < piece.text.size();) {
      const size_t here = at;
      const int32_t c = next_code_point(piece.text, at);
      const Kind kind = is_word(c) ? kWord : is_white_space(c) ? kNone : kOther;
      if (kind == open) continue;
      if (open != kNone) sink(piece.part(begin, here));
      open = kind;
      begin = here;
    }
    if (open != kNone) sink(piece.part(begin, piece.text.size()));
  }
};

class WhitespaceSplit : public PreTokenizer {
 public:
  void split(const Piece& piece, bool, const Sink& sink) const override {
    split_at_characters(piece, Behavior::kRemoved, sink, is_white_space);
  }
};

class BertPreTokenizer : public PreTokenizer {
 public:
  void split(const Piece& piece, bool, const Sink& sink) const override {
    const Sink word = [&](const Piece& part) { split_at_characters(part, Behavior::kIsolated, sink, is_punctuation); };
    split_at_characters(piece, Behavior::kRemoved, word, is_white_space);
  }
};

int32_t only_character(const std::string& text, const char* what, const std::string& where) {
  size_t at = 0;
  const int32_t c = text.empty() ? -1 : next_code_point(text, at);
  if (c < 0 || at != text.size())
    fail(ExitCode::kBadInput, "{} '{}' is not one character, {}, fix the file", what, text, where);
  return c;
}

class CharDelimiterSplit : public PreTokenizer {
 public:
  CharDelimiterSplit(const nlohmann::json& description, const std::string& where)
      : delimiter_(only_character(description.at("delimiter").get<std::string>(), "delimiter", where)) {}
  void split(const Piece& piece, bool, const Sink& sink) const override {
    split_at_characters(piece, Behavior::kRemoved, sink, [this](int32_t c) { return c == delimiter_; });
  }

 private:
  int32_t delimiter_;
};

// Splits where another script begins, by the tables in the library's own code (which follow no single version of
// Unicode and no single rule: kana belong to Han, a blank to what precedes it). What precedes the first character of a
// script is left out.
class UnicodeScripts : public PreTokenizer {
 public:
  UnicodeScripts() {
    for (int script = 0; const CharacterSet* set = CharacterSet::find("rust script " + std::to_string(script));
         ++script)
      for (size_t i = 1; i < set->ranges().size(); i += 2)
        ranges_.push_back({set->ranges()[i], set->ranges()[i + 1], script});
    std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
  }
  void split(const Piece& piece, bool, const Sink& sink) const override {
    int last = kNone;
    size_t begin = 0;
    for (size_t at = 0; at < piece.text.size();) {
      const size_t here = at;
      const int script = script_of(static_cast<uint32_t>(next_code_point(piece.text, at)));
      if (script == kNeverCut || script == last) continue;
      if (last != kNone) sink(piece.part(begin, here));
      begin = here;
      last = script;
    }
    if (last != kNone) sink(piece.part(begin, piece.text.size()));
  }

 private:
  static constexpr int kNone = -1, kNeverCut = 0;
  struct Range {
    uint32_t first, last;
    int script;
  };
  int script_of(uint32_t c) const {
    const auto behind = std::upper_bound(ranges_.begin(), ranges_.end(), c,
                                         [](uint32_t at, const Range& range) { return at < range.first; });
    return behind == ranges_.begin() || std::prev(behind)->last < c ? kNeverCut : std::prev(behind)->script;
  }
  std::vector<Range> ranges_;
};

class FixedLength : public PreTokenizer {
 public:
  FixedLength(const nlohmann::json& description, const std::string& where) {
    const nlohmann::json length = description.value("length", nlohmann::json(5));
    if (!length.is_number_unsigned() || length.get<uint64_t>() == 0)
      fail(ExitCode::kBadInput, "FixedLength of {}, {}, write a count from 1", length.dump(), where);
    length_ = length.get<uint64_t>();
  }
  void split(const Piece& piece, bool, const Sink& sink) const override {
    for (size_t at = 0; at < piece.text.size();) {
      const size_t begin = at;
      for (uint64_t i = 0; i < length_ && at < piece.text.size(); ++i) next_code_point(piece.text, at);
      sink(piece.part(begin, at));
    }
  }

 private:
  uint64_t length_ = 0;
};

class ByteLevel : public PreTokenizer {
 public:
  explicit ByteLevel(const nlohmann::json& description) : prefix_space_(description.value("add_prefix_space", true)) {
    if (description.value("use_regex", true)) pattern_.emplace(WordSplitter::kGpt2);
  }
  void split(const Piece& piece, bool, const Sink& sink) const override {
    Piece text = piece;
    std::string prefixed;
    if (prefix_space_ && !piece.text.starts_with(' ')) {
      prefixed = " " + std::string(piece.text);
      text.text = prefixed;
    }
    std::string mapped;
    const Sink map = [&](const Piece& word) {
      mapped.clear();
      for (const char byte : word.text) mapped += byte_level_characters()[static_cast<unsigned char>(byte)];
      sink({mapped, word.begin, word.end});
    };
    if (pattern_)
      pattern_->split(text, Behavior::kIsolated, false, map);
    else
      map(text);
  }
  bool maps_bytes() const override { return true; }
  Known known() const override {
    if (prefix_space_) return {};
    return {pattern_ ? pattern_->splitter() : std::nullopt, true};
  }

 private:
  bool prefix_space_;
  std::optional<Pattern> pattern_;
};

class Metaspace : public PreTokenizer {
 public:
  Metaspace(const nlohmann::json& description, const std::string& where)
      : replacement_(description.value("replacement", "\u2581")),
        scheme_(description.contains("prepend_scheme")        ? description.at("prepend_scheme").get<std::string>()
                : description.value("add_prefix_space", true) ? "always"
                                                              : "never"),
        split_(description.value("split", true)),
        mark_(only_character(replacement_, "Metaspace replacement", where)) {
    if (scheme_ != "always" && scheme_ != "first" && scheme_ != "never")
      fail(ExitCode::kBadInput, "Metaspace prepend_scheme '{}' is unknown, {}, fix the file", scheme_, where);
  }
  void split(const Piece& piece, bool at_start, const Sink& sink) const override {
    std::string replaced;
    for (const char c : piece.text) {
      if (c == ' ')
        replaced += replacement_;
      else
        replaced += c;
    }
    size_t inserted = 0;
    if ((scheme_ == "always" || (scheme_ == "first" && at_start)) && !replaced.starts_with(replacement_)) {
      replaced.insert(0, replacement_);
      inserted = replacement_.size();
    }
    // Computes the source of each part: a mark counts as one byte if it replaced a space.
    size_t done = 0;
    const Sink with_source = [&](const Piece& part) {
      const size_t begin = done;
      for (size_t at = std::min(inserted, part.text.size()); at < part.text.size();) {
        const bool was_space = piece.text[done] == ' ';
        at += was_space ? replacement_.size() : 1;
        ++done;
      }
      inserted = 0;
      const Piece source = piece.part(begin, done);
      sink({part.text, source.begin, source.end});
    };
    if (split_)
      split_at_characters(Piece::whole(replaced), Behavior::kMergedWithNext, with_source,
                          [this](int32_t c) { return c == mark_; });
    else if (!replaced.empty())
      with_source(Piece::whole(replaced));
  }

 private:
  std::string replacement_;
  std::string scheme_;
  bool split_;
  int32_t mark_;
};

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> steps) : steps_(std::move(steps)) {}
  void split(const Piece& piece, bool at_start, const Sink& sink) const override { run(0, piece, at_start, sink); }
  bool maps_bytes() const override {
    return std::any_of(steps_.begin(), steps_.end(), [](const auto& step) { return step->maps_bytes(); });
  }
  Known known() const override {
    if (steps_.size() == 1) return steps_[0]->known();
    if (steps_.size() != 2) return {};
    const Known first = steps_[0]->known(), second = steps_[1]->known();
    const bool cut_then_map = first.splitter && !first.maps_bytes && !second.splitter && second.maps_bytes;
    return cut_then_map ? Known{first.splitter, true} : Known{};
  }

 private:
  void run(size_t step, const Piece& piece, bool at_start, const Sink& sink) const {
    if (step == steps_.size()) return sink(piece);
    steps_[step]->split(piece, at_start,
                        [&](const Piece& part) { run(step + 1, part, at_start && part.begin == 0, sink); });
  }
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

}  // namespace

PreTokenizer::Piece PreTokenizer::Piece::part(size_t from, size_t to) const {
  const std::string_view cut = text.substr(from, to - from);
  const size_t size = end - begin;
  if (text.size() == size) return {cut, begin + from, begin + to};
  const auto share = [&](size_t at) { return begin + at * size / text.size(); };  // texts are below 4 GiB
  return {cut, share(from), share(to)};
}

namespace {

std::unique_ptr<PreTokenizer> make_step(const nlohmann::json& description, const std::string& where, int depth) {
  check_sequence_depth(depth, where);
  const std::string type = description.at("type").get<std::string>();
  if (type == "Split") return std::make_unique<Split>(description, where);
  if (type == "Digits") return std::make_unique<Digits>(description);
  if (type == "Punctuation") return std::make_unique<Punctuation>(description, where);
  if (type == "ByteLevel") return std::make_unique<ByteLevel>(description);
  if (type == "Metaspace") return std::make_unique<Metaspace>(description, where);
  if (type == "Whitespace") return std::make_unique<Whitespace>();
  if (type == "WhitespaceSplit") return std::make_unique<WhitespaceSplit>();
  if (type == "BertPreTokenizer") return std::make_unique<BertPreTokenizer>();
  if (type == "CharDelimiterSplit") return std::make_unique<CharDelimiterSplit>(description, where);
  if (type == "UnicodeScripts") return std::make_unique<UnicodeScripts>();
  if (type == "FixedLength") return std::make_unique<FixedLength>(description, where);
  if (type == "Sequence") {
    std::vector<std::unique_ptr<PreTokenizer>> steps;
    for (const auto& step : description.at("pretokenizers")) steps.push_back(make_step(step, where, depth + 1));
    return std::make_unique<Sequence>(std::move(steps));
  }
  fail(ExitCode::kBadInput, "pre_tokenizer '{}' is not supported, {}, use a byte-level BPE tokenizer", type, where);
}

}  // namespace

std::unique_ptr<PreTokenizer> PreTokenizer::make(const nlohmann::json& description, const std::string& where) {
  if (description.is_null()) return std::make_unique<Sequence>(std::vector<std::unique_ptr<PreTokenizer>>{});
  return make_step(description, where, 0);
}

const std::array<std::string, 256>& byte_level_characters() {
  static const std::array<std::string, 256> map = [] {
    std::array<std::string, 256> characters;
    int32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      append_code_point(characters[static_cast<size_t>(byte)], itself ? byte : next++);
    }
    return characters;
  }();
  return map;
}

int byte_of_character(int32_t code_point) {
  static const std::array<int, 0x144> map = [] {
    std::array<int, 0x144> bytes;
    bytes.fill(-1);
    for (int byte = 0; byte < 256; ++byte) {
      size_t at = 0;
      bytes[static_cast<size_t>(next_code_point(byte_level_characters()[static_cast<size_t>(byte)], at))] = byte;
    }
    return bytes;
  }();
  return code_point >= 0 && code_point < 0x144 ? map[static_cast<size_t>(code_point)] : -1;
}

}  // namespace carillon
