#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/tokenizer/hugging_face_tokenizer.h"
#include "data/tokenizer/regular_expression.h"
#include "data/tokenizer/sequence_depth.h"
#include "data/tokenizer/unicode.h"
#include "runtime/error.h"

namespace carillon {
namespace {

using Parts = std::vector<std::string>;

std::string joined(const Parts& parts) {
  std::string text;
  for (const std::string& part : parts) text += part;
  return text;
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

// A part whose characters are all in the byte map becomes those bytes; any other part stays (an added token with a
// space).
void byte_level(Parts& parts) {
  std::string bytes;
  for (const std::string& part : parts) {
    std::string mapped;
    size_t at = 0;
    while (at < part.size()) {
      const int byte = byte_of_character(next_code_point(part, at));
      if (byte < 0) break;
      mapped += static_cast<char>(byte);
      if (at == part.size()) at = part.size() + 1;
    }
    bytes += at > part.size() || part.empty() ? mapped : part;
  }
  parts = {replace_invalid_utf8(bytes)};
}

// Parses exactly "<0xNN>" to the byte; -1 otherwise.
int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int byte = -1;
  const char* digits = token.data() + (token[3] == '+' ? 4 : 3);  // Rust's parser accepts a sign
  if (*digits == '-') return -1;
  const auto [end, error] = std::from_chars(digits, token.data() + 5, byte, 16);
  return error == std::errc() && end == token.data() + 5 ? byte : -1;
}

// Runs of byte tokens become text, or one U+FFFD per byte if they are not UTF-8.
void byte_fallback(Parts& parts) {
  Parts result;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (first_invalid_utf8(bytes) == std::string::npos)
      result.push_back(bytes);
    else
      for (size_t i = 0; i < bytes.size(); ++i) result.push_back("\uFFFD");
    bytes.clear();
  };
  for (std::string& part : parts) {
    const int byte = fallback_byte(part);
    if (byte >= 0) {
      bytes += static_cast<char>(byte);
      continue;
    }
    flush();
    result.push_back(std::move(part));
  }
  flush();
  parts = std::move(result);
}

void strip(Parts& parts, const std::string& content, size_t start, size_t stop) {
  for (std::string& part : parts) {
    for (size_t i = 0; i < start && part.starts_with(content); ++i) part.erase(0, content.size());
    for (size_t i = 0; i < stop && part.ends_with(content); ++i) part.resize(part.size() - content.size());
  }
}

}  // namespace

namespace {

using Steps = std::vector<std::function<void(Parts&)>>;

// Replaces all matches of a pattern in every part by `to`.
Steps replace(const nlohmann::json& description, const std::string& where) {
  const auto& pattern = description.at("pattern");
  const auto to = description.at("content").get<std::string>();
  const std::string text = pattern.contains("String")
                               ? RegularExpression::escape(pattern.at("String").get<std::string>())
                               : pattern.at("Regex").get<std::string>();
  const auto expression = std::make_shared<RegularExpression>(text, where);
  return {[expression, to](Parts& parts) {
    for (std::string& part : parts) {
      if (part.empty()) continue;
      std::string result;
      size_t done = 0;
      for_each_match(*expression, part, [&](size_t begin, size_t end) {
        result.append(part, done, begin - done).append(to);
        done = end;
      });
      part = result.append(part, done);
    }
  }};
}

// Replaces the mark by a space, or removes it in the first part if words begin with it.
Steps metaspace(const nlohmann::json& description) {
  const auto mark = description.value("replacement", std::string("\u2581"));
  const bool prepended = description.contains("prepend_scheme") ? description.at("prepend_scheme") != "never"
                                                                : description.value("add_prefix_space", true);
  if (mark.empty()) return {};
  return {[mark, prepended](Parts& parts) {
    for (size_t i = 0; i < parts.size(); ++i) replace_all(parts[i], mark, i == 0 && prepended ? "" : " ");
  }};
}

Steps make_steps(const nlohmann::json& description, const std::string& where, int depth) {
  check_sequence_depth(depth, where);
  const std::string type = description.at("type").get<std::string>();
  if (type == "ByteLevel") return {byte_level};
  if (type == "ByteFallback") return {byte_fallback};
  if (type == "Fuse") return {[](Parts& parts) { parts = {joined(parts)}; }};
  if (type == "Replace") return replace(description, where);
  if (type == "Strip") {
    const auto content = description.at("content").get<std::string>();
    const auto start = description.at("start").get<size_t>(), stop = description.at("stop").get<size_t>();
    if (content.empty()) return {};
    return {[content, start, stop](Parts& parts) { strip(parts, content, start, stop); }};
  }
  if (type == "Metaspace") return metaspace(description);
  if (type == "Sequence") {
    Steps steps;
    for (const auto& step : description.at("decoders"))
      for (auto& made : make_steps(step, where, depth + 1)) steps.push_back(std::move(made));
    return steps;
  }
  fail(ExitCode::kBadInput, "decoder '{}' is not supported, {}, use a byte-level BPE tokenizer", type, where);
}

}  // namespace

std::vector<std::function<void(Parts&)>> make_token_decoder(const nlohmann::json& description,
                                                            const std::string& where) {
  return make_steps(description, where, 0);
}

}  // namespace carillon
