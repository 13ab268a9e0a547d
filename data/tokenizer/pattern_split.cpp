#include "data/tokenizer/pattern_split.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "runtime/error.h"

namespace carillon {

Behavior parse_behavior(const std::string& name, const std::string& where) {
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  fail(ExitCode::kBadInput, "pre_tokenizer behavior '{}' is unknown, {}, fix the file", name, where);
}

void Joiner::match(size_t begin, size_t end) {
  if (done_ != begin) part(done_, begin, invert_);
  part(begin, end, !invert_);
  done_ = end;
}

void Joiner::finish() {
  if (done_ != piece_.text.size()) part(done_, piece_.text.size(), invert_);
  if (has_open_) hand_out(open_begin_, open_end_);
}

void Joiner::hand_out(size_t begin, size_t end) {
  if (begin < end) sink_(piece_.part(begin, end));
}

void Joiner::part(size_t begin, size_t end, bool is_match) {
  switch (behavior_) {
    case Behavior::kIsolated:
      return hand_out(begin, end);
    case Behavior::kRemoved:
      if (!is_match) hand_out(begin, end);
      return;
    case Behavior::kContiguous:
      return join(has_open_ ? is_match == open_is_match_ : false, begin, end, is_match);
    case Behavior::kMergedWithPrevious:
      return join(has_open_ && is_match && !open_is_match_, begin, end, is_match);
    case Behavior::kMergedWithNext:
      return join(has_open_ && !is_match && open_is_match_, begin, end, is_match);
  }
}

void Joiner::join(bool joins, size_t begin, size_t end, bool is_match) {
  if (!joins) {
    if (has_open_) hand_out(open_begin_, open_end_);
    open_begin_ = begin;
  }
  has_open_ = true;
  open_end_ = end;
  open_is_match_ = is_match;
}

Pattern::Pattern(const nlohmann::json& description, const std::string& where) {
  if (const auto found = description.find("Regex"); found != description.end()) {
    expression_.emplace(found->get<std::string>(), where);
    splitter_ = WordSplitter::of(found->get<std::string>());
  } else {
    text_ = description.at("String").get<std::string>();
    if (text_.empty()) expression_.emplace("", where);
  }
}

Pattern::Pattern(const char* expression) : splitter_(WordSplitter::of(expression)) {
  expression_.emplace(expression, "the program");
}

void Pattern::split(const PreTokenizer::Piece& piece, Behavior behavior, bool invert,
                    const PreTokenizer::Sink& sink) const {
  const std::string_view text = piece.text;
  if (splitter_ && behavior == Behavior::kIsolated) {  // its matches leave no gaps
    for (size_t at = 0, end; at < text.size(); at = end) {
      end = splitter_->next(text, at);
      sink(piece.part(at, end));
    }
    return;
  }
  if (text.empty()) return;
  Joiner joiner(piece, behavior, invert, sink);
  if (expression_) {
    for_each_match(*expression_, text, [&](size_t begin, size_t end) { joiner.match(begin, end); });
  } else {
    for (size_t at = 0; (at = text.find(text_, at)) != std::string_view::npos; at += text_.size())
      joiner.match(at, at + text_.size());
  }
  joiner.finish();
}

}  // namespace carillon
