// What is done to a text before it is cut: the "normalizer" of tokenizer.json. NFC, NFD, NFKC, NFKD, Lowercase,
// StripAccents, BertNormalizer, Replace (a string or a regular expression), Prepend, Strip, ByteLevel, and a Sequence
// of them. Precompiled (a SentencePiece map) and Nmt are refused by name.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace carillon {

// A text on its way through the steps. It remembers, where that is asked for, which byte of the source each of its
// bytes ends at: a step says what it keeps and what it puts in place of what.
class NormalizedText {
 public:
  explicit NormalizedText(std::string_view source, bool with_ends);

  std::string_view text() const { return text_; }
  // Bytes of the source up to the end of the first `size` bytes of text().
  size_t source_end(size_t size) const;

  // Whether the text begins where the source does: nothing was removed there.
  bool keeps_start() const { return keeps_start_; }

  // One step: parts in order, which together are all of text().
  void keep(size_t size);
  void replace(size_t size, std::string_view by);
  void finish_step();

 private:
  std::string text_, made_;
  bool with_ends_;
  std::vector<uint32_t> ends_, made_ends_;  // ends_ is empty while text() is the source itself
  bool changed_ = false, keeps_start_ = true;
  size_t taken_ = 0;
};

class Normalizer {
 public:
  // description: the JSON object, or null for none. Error 65 naming a type that is not supported.
  Normalizer(const nlohmann::json& description, const std::string& where);
  bool empty() const { return steps_.empty(); }
  void run(NormalizedText& text) const {
    for (const Step& step : steps_) step(text);
  }
  std::string normalized(std::string_view text) const;

 private:
  using Step = std::function<void(NormalizedText& text)>;
  void read(const nlohmann::json& description, const std::string& where, int depth);
  void read_bert(const nlohmann::json& description);
  void read_replace(const nlohmann::json& description, const std::string& where);
  std::vector<Step> steps_;
};

}  // namespace carillon
