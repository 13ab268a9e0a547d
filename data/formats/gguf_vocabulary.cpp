#include "data/formats/gguf_vocabulary.h"

#include <fmt/format.h>

#include <set>
#include <unordered_map>
#include <unordered_set>

#include "runtime/check.h"

namespace carillon {

void GgufTokens::set(int64_t id, const std::string& content, int32_t of_kind) {
  CHECK(id >= 0 && id < static_cast<int64_t>(text.size()), "a token beyond the embedding", id, content);
  text[static_cast<size_t>(id)] = content;
  kind[static_cast<size_t>(id)] = of_kind;
}

void GgufTokens::name_unused() {
  for (size_t id = 0; id < text.size(); ++id)
    if (text[id].empty()) text[id] = fmt::format("[PAD{}]", id), kind[id] = SentencePieceFile::kUnused;
}

Merges merges_of(const nlohmann::json& model) {
  Merges merges;
  for (const nlohmann::json& merge : model.at("merges")) {
    if (merge.is_array()) {
      merges.emplace_back(merge.at(0).get<std::string>(), merge.at(1).get<std::string>());
      continue;
    }
    const std::string text = merge.get<std::string>();
    const size_t blank = text.find(' ');
    CHECK(blank != std::string::npos, "the tokenizer has taken a merge without a blank", text);
    merges.emplace_back(text.substr(0, blank), text.substr(blank + 1));
  }
  return merges;
}

void score_by_merges(const Merges& merges, GgufTokens& tokens, const std::function<void(const std::string&)>& refuse) {
  std::unordered_map<std::string, size_t> place;  // token -> its first merge
  std::set<std::pair<std::string, std::string>> known;
  std::string last;
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string made = merges[i].first + merges[i].second;
    const bool first = place.emplace(made, i).second;
    if (!first && made != last) refuse("has merges into '" + made + "' in several places");
    known.insert(merges[i]);
    last = made;
  }
  std::unordered_set<std::string> all;
  for (size_t id = 0; id < tokens.text.size(); ++id)
    if (tokens.kind[id] == SentencePieceFile::kNormal) all.insert(tokens.text[id]);
  for (size_t id = 0; id < tokens.text.size(); ++id) {
    const std::string& text = tokens.text[id];
    if (tokens.kind[id] != SentencePieceFile::kNormal) continue;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if ((static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) continue;  // inside a character
      const std::pair halves(text.substr(0, cut), text.substr(cut));
      if (all.contains(halves.first) && all.contains(halves.second) && !known.contains(halves))
        refuse(fmt::format("does not merge '{}' and '{}' into the token they make", halves.first, halves.second));
    }
    if (const auto found = place.find(text); found != place.end())
      tokens.score[id] = -static_cast<float>(found->second);
  }
}

}  // namespace carillon
