#include "data/tokenizer/normalizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/tokenizer/character_set.h"
#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/regular_expression.h"
#include "data/tokenizer/sequence_depth.h"
#include "data/tokenizer/unicode.h"
#include "runtime/error.h"

namespace carillon {

NormalizedText::NormalizedText(std::string_view source, bool with_ends) : text_(source), with_ends_(with_ends) {
  if (with_ends && source.size() >= UINT32_MAX)
    fail(ExitCode::kBadInput, "a text of {} bytes, text, cut the document", source.size());
}

size_t NormalizedText::source_end(size_t size) const { return size == 0 || ends_.empty() ? size : ends_[size - 1]; }

void NormalizedText::keep(size_t size) {
  if (changed_) {
    made_.append(text_, taken_, size);
    if (with_ends_)
      for (size_t i = 1; i <= size; ++i) made_ends_.push_back(static_cast<uint32_t>(source_end(taken_ + i)));
  }
  taken_ += size;
}

void NormalizedText::replace(size_t size, std::string_view by) {
  if (std::string_view(text_).substr(taken_, size) == by) return keep(size);
  if (!changed_) {
    changed_ = true;
    made_.assign(text_, 0, taken_);
    made_ends_.clear();
    if (with_ends_)
      for (size_t i = 1; i <= taken_; ++i) made_ends_.push_back(static_cast<uint32_t>(source_end(i)));
  }
  made_ += by;
  if (made_.empty()) keeps_start_ = false;
  if (with_ends_) {  // the new bytes share the source of the old ones; the last new byte ends where the last old one
                     // ended
    const size_t begin = source_end(taken_), end = source_end(taken_ + size);
    for (size_t i = 1; i <= by.size(); ++i)
      made_ends_.push_back(static_cast<uint32_t>(begin + (end - begin) * i / by.size()));
  }
  taken_ += size;
}

void NormalizedText::finish_step() {
  if (changed_) {
    text_.swap(made_);
    ends_.swap(made_ends_);
  }
  changed_ = false;
  taken_ = 0;
}

namespace {

// A step that replaces each character by a text; if `replacement` returns false, the character stays.
template <class Function>
void for_each_character(NormalizedText& text, const Function& replacement) {
  const std::string_view all = text.text();
  std::string storage;
  for (size_t at = 0; at < all.size();) {
    const size_t begin = at;
    const int32_t c = next_code_point(all, at);
    if (replacement(c, storage))
      text.replace(at - begin, storage);
    else
      text.keep(at - begin);
  }
  text.finish_step();
}

// Whether all characters are unchanged by NFC whatever their neighbours; true for most texts.
bool is_surely_nfc(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const int32_t c = next_code_point(text, at);
    const bool stays = c < 0x300 || (c >= 0x3400 && c < 0xA000) || (c >= 0xAC00 && c < 0xD7A4) ||
                       (c >= 0x3041 && c < 0x3097) || (c >= 0x30A1 && c < 0x30FB) || (c >= 0x400 && c < 0x483);
    if (!stays) return false;
  }
  return true;
}

void normal_form(NormalizedText& text, NormalForm form) {
  // Works on the parts between ASCII characters, which neither combine with what precedes them nor are reordered.
  const std::string_view all = text.text();
  std::string storage;
  const auto ascii = [&](size_t at) { return static_cast<unsigned char>(all[at]) < 0x80; };
  for (size_t at = 0; at < all.size();) {
    size_t end = at;
    while (end < all.size() && ascii(end) && (end + 1 == all.size() || ascii(end + 1))) ++end;
    if (end > at) {
      text.keep(end - at);
      at = end;
      continue;
    }
    do ++end;  // an ASCII character that may combine with what follows, or the first other one
    while (end < all.size() && !ascii(end));
    const std::string_view part = all.substr(at, end - at);
    if (form == NormalForm::kNfc && is_surely_nfc(part))
      text.keep(part.size());
    else
      text.replace(part.size(), normalize(part, form, storage));
    at = end;
  }
  text.finish_step();
}

void lower_case(NormalizedText& text) {
  for_each_character(text, [](int32_t c, std::string& lower) {
    if (c < 'A') return false;
    lower.clear();
    append_lower_case(lower, c);
    return true;
  });
}

void remove(NormalizedText& text, const CharacterSet& set) {
  for_each_character(text, [&set](int32_t c, std::string& nothing) {
    nothing.clear();
    return set.contains(c);
  });
}

void strip(NormalizedText& text, bool left, bool right) {
  const std::string_view all = text.text();
  size_t begin = 0, end = all.size();
  if (left)
    for (size_t at = 0; at < end && is_white_space(next_code_point(all, at));) begin = at;
  if (right)
    for (size_t at = end; end > begin && is_white_space(previous_code_point(all, at));) end = at;
  const size_t size = all.size();
  text.replace(begin, "");
  text.keep(end - begin);
  text.replace(size - end, "");
  text.finish_step();
}

bool flag(const nlohmann::json& description, const char* key, bool otherwise) {
  const auto found = description.find(key);
  return found == description.end() || found->is_null() ? otherwise : found->get<bool>();
}

}  // namespace

Normalizer::Normalizer(const nlohmann::json& description, const std::string& where) {
  if (!description.is_null()) read(description, where, 0);
}

std::string Normalizer::normalized(std::string_view text) const {
  NormalizedText result(text, false);
  run(result);
  return std::string(result.text());
}

void Normalizer::read_bert(const nlohmann::json& description) {
  const bool lower = flag(description, "lowercase", true);
  if (flag(description, "clean_text", true)) {
    const CharacterSet& control = named_set("rust bert control");
    const CharacterSet& space = named_set("rust bert space");
    steps_.push_back([&control, &space](NormalizedText& text) {
      for_each_character(text, [&](int32_t c, std::string& by) {
        by = space.contains(c) ? " " : "";
        return space.contains(c) || control.contains(c);
      });
    });
  }
  if (flag(description, "handle_chinese_chars", true)) {
    const CharacterSet& chinese = named_set("rust bert chinese");
    steps_.push_back([&chinese](NormalizedText& text) {
      for_each_character(text, [&](int32_t c, std::string& by) {
        if (!chinese.contains(c)) return false;
        by = " ";
        append_code_point(by, c);
        by += ' ';
        return true;
      });
    });
  }
  if (flag(description, "strip_accents", lower)) {
    steps_.push_back([](NormalizedText& text) { normal_form(text, NormalForm::kNfd); });
    const CharacterSet& accents = named_set("rust bert accent");
    steps_.push_back([&accents](NormalizedText& text) { remove(text, accents); });
  }
  if (lower) steps_.push_back(lower_case);
}

void Normalizer::read_replace(const nlohmann::json& description, const std::string& where) {
  const auto& pattern = description.at("pattern");
  const auto content = description.at("content").get<std::string>();
  const std::string written = pattern.contains("String")
                                  ? RegularExpression::escape(pattern.at("String").get<std::string>())
                                  : pattern.at("Regex").get<std::string>();
  const auto expression = std::make_shared<RegularExpression>(written, where);
  const std::string plain = pattern.contains("String") ? pattern.at("String").get<std::string>() : "";
  steps_.push_back([expression, plain, content](NormalizedText& text) {
    const std::string_view all = text.text();
    if (all.empty()) return;
    size_t done = 0;
    const auto match = [&](size_t begin, size_t end) {
      text.keep(begin - done);
      text.replace(end - begin, content);
      done = end;
    };
    if (!plain.empty()) {  // no regular expression is needed
      for (size_t at = 0; (at = all.find(plain, at)) != std::string_view::npos; at = done) match(at, at + plain.size());
    } else {
      for_each_match(*expression, all, match);
    }
    text.keep(all.size() - done);
    text.finish_step();
  });
}

void Normalizer::read(const nlohmann::json& description, const std::string& where, int depth) {
  check_sequence_depth(depth, where);
  const std::string type = description.at("type").get<std::string>();
  const std::pair<const char*, NormalForm> forms[] = {
      {"NFC", NormalForm::kNfc}, {"NFD", NormalForm::kNfd}, {"NFKC", NormalForm::kNfkc}, {"NFKD", NormalForm::kNfkd}};
  for (const auto& [name, form] : forms)
    if (type == name) return steps_.push_back([form = form](NormalizedText& text) { normal_form(text, form); });
  if (type == "Sequence") {
    for (const auto& step : description.at("normalizers")) read(step, where, depth + 1);
    return;
  }
  if (type == "Replace") return read_replace(description, where);
  if (type == "BertNormalizer") return read_bert(description);
  if (type == "ByteLevel")
    return steps_.push_back([](NormalizedText& text) {
      const std::string_view all = text.text();
      for (const char byte : all) text.replace(1, byte_level_characters()[static_cast<unsigned char>(byte)]);
      text.finish_step();
    });
  if (type == "Lowercase") return steps_.push_back(lower_case);
  if (type == "StripAccents")
    return steps_.push_back([&set = named_set("rust removed accent")](NormalizedText& text) { remove(text, set); });
  if (type == "Strip") {
    const bool left = flag(description, "strip_left", true), right = flag(description, "strip_right", true);
    return steps_.push_back([left, right](NormalizedText& text) { strip(text, left, right); });
  }
  if (type == "Prepend") {
    return steps_.push_back([prefix = description.at("prepend").get<std::string>()](NormalizedText& text) {
      if (text.text().empty()) return;
      text.replace(0, prefix);
      text.keep(text.text().size());
      text.finish_step();
    });
  }
  fail(ExitCode::kBadInput, "normalizer '{}' is not supported, {}, use a byte-level BPE tokenizer", type, where);
}

}  // namespace carillon
