// Changes a text before it is split: the "normalizer" of tokenizer.json. Supports NFC, NFD, NFKC, NFKD, Lowercase,
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

// A text that passes through the steps. With `with_ends` it tracks for each of its bytes the end of the source bytes it
// came from; for this, each step reports what it keeps and what it replaces.
class NormalizedText {
 public:
  explicit NormalizedText(std::string_view source, bool with_ends);

  std::string_view text() const { return text_; }
  // The number of source bytes up to the end of the first `size` bytes of text().
  size_t source_end(size_t size) const;

  // Whether nothing was removed at the start of the source.
  bool keeps_start() const { return keeps_start_; }

  // One step: consecutive parts that together cover text().
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
  // `description` is the JSON object, or null for none. Error 65 naming a type that is not supported.
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
