#include "data/tasks/retrieval.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "data/tasks/retrieval_draw.h"
#include "data/tasks/retrieval_words.h"
#include "runtime/error.h"

namespace carillon {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

std::vector<std::string> sentences_of(const std::string& text) {
  std::vector<std::string> sentences(1);
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i] == '\n' || text[i] == '\r' ? ' ' : text[i];
    if (c == ' ' && sentences.back().empty()) continue;
    sentences.back() += c;
    const bool ends = (c == '.' || c == '!' || c == '?') && (i + 1 == text.size() || std::isspace(text[i + 1]));
    if (ends) sentences.emplace_back();
  }
  if (sentences.back().empty()) sentences.pop_back();
  return sentences;
}

bool contains(std::span<const int64_t> all, const std::vector<int64_t>& part) {
  return std::search(all.begin(), all.end(), part.begin(), part.end()) != all.end();
}

constexpr const char* kNeedle =
    "The best thing to do on a free evening in Lisbon is to eat roasted chestnuts by the harbour.";
constexpr const char* kQuestion =
    "What is the best thing to do on a free evening in Lisbon? The best thing to do on a free evening in Lisbon is to";

}  // namespace

std::vector<std::string> ruler_subtasks() {
  return {"niah_single", "niah_multikey", "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe"};
}

Retrieval::Retrieval(RetrievalOptions options, const Tokenizer* tokenizer, int64_t vocabulary)
    : options_(std::move(options)), tokenizer_(tokenizer) {
  const std::string& task = options_.task;
  if (!tokenizer_ && vocabulary < 9)
    fail(ExitCode::kUsage, "a vocabulary of {} is too small for {}, in tasks, it takes 9 ids or a tokenizer",
         vocabulary, task);
  symbols_ = (vocabulary - 3) / 2;
  filler_ = symbols_;
  filler_count_ = vocabulary - 3 - symbols_;
  needle_ = vocabulary - 1, question_ = vocabulary - 2, is_ = vocabulary - 3;
  if (options_.digits == 0) options_.digits = task == "passkey" || task == "vt" ? 5 : 7;
  if (options_.needle.empty()) {
    options_.needle = kNeedle;
    options_.question = kQuestion;
    options_.keywords = {"roasted", "chestnuts", "harbour"};
  }
  for (int64_t ids = symbols_; ids < options_.length + 16; ids *= symbols_) ++word_width_;
  sentences_ = sentences_of(options_.haystack_text);
  if (options_.new_tokens == 0) {
    const int64_t answers = task == "niah_multivalue" || task == "niah_multiquery" ? 4 : 1;
    if (tokenizer_)
      options_.new_tokens = task == "passkey"                   ? 10
                            : task == "needle" || task == "fwe" ? 50
                            : task == "vt"                      ? 30
                            : task == "cwe"                     ? 120
                                                                : 32 * answers;
    else
      options_.new_tokens = task == "vt"    ? 5 * 3
                            : task == "cwe" ? 10 * (word_width_ + 1)
                            : task == "fwe" ? 3 * (word_width_ + 1)
                                            : (options_.digits + (answers > 1 ? 1 : 0)) * answers;
  }

  // The largest haystack that leaves room for the answer.
  RetrievalSample unused;
  const auto room = [&](int64_t size) {
    return options_.length - options_.new_tokens - static_cast<int64_t>(tokens_of(script(0, 0.5, size, unused)).size());
  };
  if (room(0) < 0)
    fail(ExitCode::kUsage, "length {} has no room for task {}, in lengths, it takes {} tokens", options_.length, task,
         options_.length - room(0));
  size_ = largest_with_room(room);
}

RetrievalSample Retrieval::sample(int64_t index, double depth) const {
  // Words have different numbers of tokens: a sample may have to be a little shorter than the one that was measured.
  for (int64_t size = size_;; --size) {
    RetrievalSample sample;
    sample.prompt = tokens_of(script(index, depth, size, sample));
    const int64_t needed = static_cast<int64_t>(sample.prompt.size()) + options_.new_tokens;
    if (needed <= options_.length) return sample;
    if (size == 0)
      fail(ExitCode::kUsage, "length {} has no room for task {}, in lengths, it takes {} tokens", options_.length,
           options_.task, needed);
  }
}

double Retrieval::score(const RetrievalSample& sample, std::span<const int64_t> answer) const {
  if (!tokenizer_) {
    const std::vector<int64_t>& first = sample.expected.front();
    if (options_.task == "passkey")
      return answer.size() >= first.size() && std::equal(first.begin(), first.end(), answer.begin()) ? 1 : 0;
    double right = 0;
    if (options_.task == "needle") {
      for (size_t i = 0; i < first.size(); ++i) right += i < answer.size() && answer[i] == first[i];
      return right / static_cast<double>(first.size());
    }
    for (const auto& expected : sample.expected) right += contains(answer, expected);
    return right / static_cast<double>(sample.expected.size());
  }
  const std::string text =
      lower(tokenizer_->decode(std::vector<uint32_t>(answer.begin(), answer.end()), /*skip_special=*/true));
  if (options_.task == "passkey") {
    const size_t begin = text.find_first_of("0123456789");
    if (begin == std::string::npos) return 0;
    const size_t end = std::min(text.find_first_not_of("0123456789", begin), text.size());
    return text.substr(begin, end - begin) == sample.references.front() ? 1 : 0;
  }
  double right = 0;
  for (const std::string& reference : sample.references) right += text.find(lower(reference)) != std::string::npos;
  return right / static_cast<double>(sample.references.size());
}

void Retrieval::expect(RetrievalSample& sample, const Part& part) const {
  if (tokenizer_)
    sample.references.push_back(part.text);
  else
    sample.expected.push_back(part.tokens);
}

std::vector<int32_t> Retrieval::tokens_of(const Script& script) const {
  std::vector<int32_t> tokens;
  if (!tokenizer_) {
    for (const Part& part : script) tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
    return tokens;
  }
  std::string text;
  for (const Part& part : script) text += (text.empty() || part.text.empty() ? "" : " ") + part.text;
  const std::vector<uint32_t> ids = tokenizer_->encode(text, /*with_special=*/true);
  return {ids.begin(), ids.end()};
}

Retrieval::Script Retrieval::script(int64_t index, double depth, int64_t size, RetrievalSample& sample) const {
  Draw draw(options_.seed, options_.task, index);
  if (options_.task == "passkey" || options_.task == "needle") return single_fact(draw, depth, size, sample);
  if (options_.task == "vt") return variables(draw, size, sample);
  if (options_.task == "cwe" || options_.task == "fwe") return words(draw, size, sample);
  return numbers(draw, size, sample);
}

Retrieval::Script Retrieval::single_fact(Draw& draw, double depth, int64_t size, RetrievalSample& sample) const {
  const bool passkey = options_.task == "passkey";
  Part fact, question;
  if (passkey) {
    const Part key = number(draw);
    std::vector<int64_t> twice = {needle_};
    twice.insert(twice.end(), key.tokens.begin(), key.tokens.end());
    twice.insert(twice.end(), twice.begin(), twice.end());
    fact = {"The pass key is " + key.text + ". Keep it in mind: " + key.text + " is the pass key.", twice};
    question = {"What is the pass key? The pass key is", {question_}};
    expect(sample, key);
  } else {
    std::vector<Part> taken;
    const Part key = name(draw, taken), value = number(draw);
    std::vector<int64_t> tokens = {needle_}, asked = {question_};
    for (const int64_t token : key.tokens) tokens.push_back(token), asked.push_back(token);
    tokens.push_back(is_), asked.push_back(is_);
    tokens.insert(tokens.end(), value.tokens.begin(), value.tokens.end());
    fact = {options_.needle, tokens};
    question = {options_.question, asked};
    if (tokenizer_)
      sample.references = options_.keywords;
    else
      sample.expected = {value.tokens};
  }
  Script script = haystack(draw, size);
  const auto at = static_cast<std::ptrdiff_t>(std::floor(depth * static_cast<double>(size) + 0.5));
  script.insert(script.begin() + at, fact);
  if (passkey)
    script.insert(script.begin(), {"Somewhere in the text below there is a pass key. Find it and remember it.", {}});
  script.push_back(question);
  return script;
}

// `size` units without information.
Retrieval::Script Retrieval::haystack(Draw& draw, int64_t size) const {
  const bool repeats = options_.task != "needle";
  Script script;
  for (int64_t i = 0; i < size; ++i) {
    Part unit;
    if (tokenizer_) {
      if (repeats)
        unit.text = plain_sentences()[static_cast<size_t>(i) % plain_sentences().size()];
      else if (!sentences_.empty())
        unit.text = sentences_[static_cast<size_t>(i) % sentences_.size()];
      else
        unit.text = sentence_of(draw.below(64 * 64 * 8), draw.below(64 * 64));
    } else if (!repeats && !options_.haystack_tokens.empty()) {
      unit.tokens = {options_.haystack_tokens[static_cast<size_t>(i) % options_.haystack_tokens.size()]};
    } else {
      unit.tokens = {filler_ + (repeats ? i % filler_count_ : draw.below(filler_count_))};
    }
    script.push_back(std::move(unit));
  }
  return script;
}

}  // namespace carillon
