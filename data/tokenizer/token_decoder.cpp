#include <charconv>
#include <nlohmann/json.hpp>

#include "data/tokenizer/hugging_face_tokenizer.h"
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

// A part all of whose characters are in the byte map becomes those bytes; another stays (an added token with a space).
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

// "<0xNN>" -> the byte, exactly in that form; -1 otherwise.
int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int byte = -1;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  return error == std::errc() && end == token.data() + 5 ? byte : -1;
}

// Runs of byte tokens become text, or one U+FFFD a byte where they are no UTF-8.
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

std::vector<std::function<void(Parts&)>> make_token_decoder(const nlohmann::json& description,
                                                            const std::string& where) {
  const std::string type = description.at("type").get<std::string>();
  if (type == "ByteLevel") return {byte_level};
  if (type == "ByteFallback") return {byte_fallback};
  if (type == "Fuse") return {[](Parts& parts) { parts = {joined(parts)}; }};
  if (type == "Replace" && description.at("pattern").contains("String")) {
    const auto from = description["pattern"]["String"].get<std::string>();
    const auto to = description.at("content").get<std::string>();
    if (from.empty()) return {};
    return {[from, to](Parts& parts) {
      for (std::string& part : parts) replace_all(part, from, to);
    }};
  }
  if (type == "Strip") {
    const auto content = description.at("content").get<std::string>();
    const auto start = description.at("start").get<size_t>(), stop = description.at("stop").get<size_t>();
    if (content.empty()) return {};
    return {[content, start, stop](Parts& parts) { strip(parts, content, start, stop); }};
  }
  if (type == "Metaspace") {
    const auto mark = description.value("replacement", std::string("\u2581"));
    const bool prepended = description.contains("prepend_scheme") ? description["prepend_scheme"] != "never"
                                                                  : description.value("add_prefix_space", true);
    return {[mark, prepended](Parts& parts) {
      if (prepended && !parts.empty() && parts[0].starts_with(mark)) parts[0].erase(0, mark.size());
      for (std::string& part : parts) replace_all(part, mark, " ");
    }};
  }
  if (type == "Sequence") {
    std::vector<std::function<void(Parts&)>> steps;
    for (const auto& step : description.at("decoders")) {
      if (step.at("type") == "Sequence")
        fail(ExitCode::kBadInput, "a Sequence inside a Sequence of decoders, {}, write one list", where);
      for (auto& made : make_token_decoder(step, where)) steps.push_back(std::move(made));
    }
    return steps;
  }
  fail(ExitCode::kBadInput, "decoder '{}' is not supported, {}, use a byte-level BPE tokenizer", type, where);
}

}  // namespace carillon
