#include "data/tokenizer/pre_tokenizer.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "data/tokenizer/regular_expression.h"
#include "data/tokenizer/unicode.h"
#include "runtime/error.h"

namespace carillon {
namespace {

enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior parse_behavior(const std::string& name, const std::string& where) {
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  fail(ExitCode::kBadInput, "pre_tokenizer behavior '{}' is unknown, {}, mend the file", name, where);
}

// Gathers consecutive parts (matches and the gaps between) and hands out pieces as the behaviour joins them.
class Joiner {
 public:
  Joiner(std::string_view text, Behavior behavior, const PreTokenizer::Sink& sink)
      : text_(text), behavior_(behavior), sink_(sink) {}
  ~Joiner() = default;

  void part(size_t begin, size_t end, bool is_match) {
    if (begin == end) return;
    const bool joins = has_open_ && ((behavior_ == Behavior::kContiguous && is_match == open_is_match_) ||
                                     (behavior_ == Behavior::kMergedWithPrevious && is_match && !open_is_match_) ||
                                     (behavior_ == Behavior::kMergedWithNext && !is_match && open_is_match_));
    if (!joins) {
      flush();
      open_begin_ = begin;
    }
    has_open_ = true;
    open_end_ = end;
    open_is_match_ = is_match;
  }
  void flush() {
    if (has_open_ && !(behavior_ == Behavior::kRemoved && open_is_match_))
      sink_(text_.substr(open_begin_, open_end_ - open_begin_));
    has_open_ = false;
  }

 private:
  std::string_view text_;
  Behavior behavior_;
  const PreTokenizer::Sink& sink_;
  size_t open_begin_ = 0, open_end_ = 0;
  bool has_open_ = false;
  bool open_is_match_ = false;
};

// Something that finds the next match at or after `from`.
class Pattern {
 public:
  Pattern(const nlohmann::json& description, const std::string& where) {
    if (const auto found = description.find("Regex"); found != description.end()) {
      expression_.emplace(found->get<std::string>(), where);
      splitter_ = WordSplitter::of(found->get<std::string>());
    } else {
      text_ = description.at("String").get<std::string>();
    }
  }
  explicit Pattern(const char* expression) : splitter_(WordSplitter::of(expression)) {
    expression_.emplace(expression, "ByteLevel");
  }
  explicit Pattern(std::string text) : text_(std::move(text)) {}

  void split(std::string_view text, Behavior behavior, bool invert, const PreTokenizer::Sink& sink) const {
    if (splitter_ && behavior == Behavior::kIsolated) {  // its matches leave no gaps
      for (size_t at = 0, end; at < text.size(); at = end) {
        end = splitter_->next(text, at);
        sink(text.substr(at, end - at));
      }
      return;
    }
    Joiner joiner(text, behavior, sink);
    size_t done = 0, from = 0;
    RegularExpression::Match match;
    while (from <= text.size() && find(text, from, match)) {
      joiner.part(done, match.begin, invert);
      joiner.part(match.begin, match.end, !invert);
      done = from = match.end;
      if (match.begin == match.end) {  // an empty match: look again one character further
        if (from == text.size()) break;
        next_code_point(text, from);
      }
    }
    joiner.part(done, text.size(), invert);
    joiner.flush();
  }
  const std::optional<WordSplitter>& splitter() const { return splitter_; }

 private:
  bool find(std::string_view text, size_t from, RegularExpression::Match& match) const {
    if (expression_) return expression_->find(text, from, match);
    if (text_.empty()) return false;
    match.begin = text.find(text_, from);
    match.end = match.begin + text_.size();
    return match.begin != std::string_view::npos;
  }

  std::optional<RegularExpression> expression_;
  std::optional<WordSplitter> splitter_;
  std::string text_;
};

class Split : public PreTokenizer {
 public:
  Split(const nlohmann::json& description, const std::string& where)
      : pattern_(description.at("pattern"), where),
        behavior_(parse_behavior(description.at("behavior").get<std::string>(), where)),
        invert_(description.value("invert", false)) {}
  void split(std::string_view text, bool, const Sink& sink) const override {
    pattern_.split(text, behavior_, invert_, sink);
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
  void split(std::string_view text, bool, const Sink& sink) const override {
    Joiner joiner(text, individual_ ? Behavior::kIsolated : Behavior::kContiguous, sink);
    size_t done = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      if (!is_numeric(next_code_point(text, at))) continue;
      joiner.part(done, begin, false);
      joiner.part(begin, at, true);
      done = at;
    }
    joiner.part(done, text.size(), false);
    joiner.flush();
  }

 private:
  bool individual_;
};

class ByteLevel : public PreTokenizer {
 public:
  explicit ByteLevel(const nlohmann::json& description) : prefix_space_(description.value("add_prefix_space", true)) {
    if (description.value("use_regex", true)) pattern_.emplace(WordSplitter::kGpt2);
  }
  void split(std::string_view text, bool, const Sink& sink) const override {
    std::string prefixed;
    if (prefix_space_ && !text.starts_with(' ')) {
      prefixed = " " + std::string(text);
      text = prefixed;
    }
    std::string mapped;
    const Sink map = [&](std::string_view piece) {
      mapped.clear();
      for (const char byte : piece) mapped += byte_level_characters()[static_cast<unsigned char>(byte)];
      sink(mapped);
    };
    if (pattern_)
      pattern_->split(text, Behavior::kIsolated, false, map);
    else
      map(text);
  }
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
        scheme_(description.contains("prepend_scheme")        ? description["prepend_scheme"].get<std::string>()
                : description.value("add_prefix_space", true) ? "always"
                                                              : "never"),
        split_(description.value("split", true)),
        pattern_(replacement_) {
    if (scheme_ != "always" && scheme_ != "first" && scheme_ != "never")
      fail(ExitCode::kBadInput, "Metaspace prepend_scheme '{}' is unknown, {}, mend the file", scheme_, where);
  }
  void split(std::string_view text, bool at_start, const Sink& sink) const override {
    std::string replaced;
    for (const char c : text) {
      if (c == ' ')
        replaced += replacement_;
      else
        replaced += c;
    }
    if ((scheme_ == "always" || (scheme_ == "first" && at_start)) && !replaced.starts_with(replacement_))
      replaced.insert(0, replacement_);
    if (split_)
      pattern_.split(replaced, Behavior::kMergedWithNext, false, sink);
    else
      sink(replaced);
  }

 private:
  std::string replacement_;
  std::string scheme_;
  bool split_;
  Pattern pattern_;
};

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> steps) : steps_(std::move(steps)) {}
  void split(std::string_view text, bool at_start, const Sink& sink) const override { run(0, text, at_start, sink); }
  Known known() const override {
    if (steps_.size() == 1) return steps_[0]->known();
    if (steps_.size() != 2) return {};
    const Known first = steps_[0]->known(), second = steps_[1]->known();
    const bool cut_then_map = first.splitter && !first.maps_bytes && !second.splitter && second.maps_bytes;
    return cut_then_map ? Known{first.splitter, true} : Known{};
  }

 private:
  void run(size_t step, std::string_view text, bool at_start, const Sink& sink) const {
    if (step == steps_.size()) return sink(text);
    steps_[step]->split(text, at_start, [&](std::string_view piece) {
      run(step + 1, piece, at_start, sink);
      at_start = false;
    });
  }
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

}  // namespace

std::unique_ptr<PreTokenizer> PreTokenizer::make(const nlohmann::json& description, const std::string& where) {
  if (description.is_null()) return std::make_unique<Sequence>(std::vector<std::unique_ptr<PreTokenizer>>{});
  const std::string type = description.at("type").get<std::string>();
  if (type == "Split") return std::make_unique<Split>(description, where);
  if (type == "Digits") return std::make_unique<Digits>(description);
  if (type == "ByteLevel") return std::make_unique<ByteLevel>(description);
  if (type == "Metaspace") return std::make_unique<Metaspace>(description, where);
  if (type == "Sequence") {
    std::vector<std::unique_ptr<PreTokenizer>> steps;
    for (const auto& step : description.at("pretokenizers")) {
      if (step.at("type") == "Sequence")
        fail(ExitCode::kBadInput, "a Sequence inside a Sequence of pre-tokenizers, {}, write one list", where);
      steps.push_back(make(step, where));
    }
    return std::make_unique<Sequence>(std::move(steps));
  }
  fail(ExitCode::kBadInput, "pre_tokenizer '{}' is not supported, {}, use a byte-level BPE tokenizer", type, where);
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
