#include "data/tokenizer/hugging_face_tokenizer.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/tokenizer/unicode.h"
#include "data/tokenizer/word_cache.h"
#include "runtime/check.h"
#include "runtime/json_fields.h"

namespace carillon {
namespace {

uint32_t token_id(const nlohmann::json& value, const std::string& what, const std::string& path) {
  const std::optional<int64_t> id = integer_of(value);
  if (!id || *id < 0 || *id >= (int64_t{1} << 31))
    fail(ExitCode::kBadInput, "the id of {} is {}, {}, ids are integers from 0", what, value.dump(), path);
  return static_cast<uint32_t>(*id);
}

}  // namespace

// Words repeat: of natural text all but a few in a hundred are found here. Both bounds only limit memory (about 20 MB).
struct HuggingFaceTokenizer::Pieces {
  static constexpr size_t kMost = size_t{1} << 17;
  static constexpr size_t kLongest = 64;
  StringMap<std::vector<uint32_t>> ids;
  WordCache words;
  std::string mapped;
};

HuggingFaceTokenizer::HuggingFaceTokenizer(const std::string& path, std::string_view text) {
  path_ = path;
  hash_ = XXH3_64bits(text.data(), text.size());
  try {
    read(nlohmann::json::parse(text));
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::kBadInput, "not a tokenizer file ({}), {}, copy it again", error.what(), path_);
  }
}

HuggingFaceTokenizer::~HuggingFaceTokenizer() = default;

void HuggingFaceTokenizer::read(const nlohmann::json& file) {
  const auto part = [&](const char* key) { return file.contains(key) ? file[key] : nlohmann::json(); };
  const nlohmann::json& model = file.at("model");
  // Old files have no type: only BPE models have merges.
  const std::string type = model.value("type", model.contains("merges") ? "BPE" : "unknown");
  if (type != "BPE")
    fail(ExitCode::kBadInput, "model type '{}' is not supported, {}, use a BPE tokenizer", type, path_);
  model_ = std::make_unique<BytePairModel>(model, path_);
  for (const auto& [token, id] : model_->tokens()) vocabulary_ = std::max(vocabulary_, int64_t{id} + 1);
  read_normalizer(part("normalizer"));
  pre_tokenizer_ = PreTokenizer::make(part("pre_tokenizer"), path_);
  if (const auto known = pre_tokenizer_->known(); known.maps_bytes) splitter_ = known.splitter;
  if (file.contains("added_tokens")) read_added_tokens(file["added_tokens"]);
  read_post_processor(part("post_processor"));
  const nlohmann::json decoder = part("decoder");
  has_decoder_ = !decoder.is_null();
  if (has_decoder_) decoder_ = make_token_decoder(decoder, path_);
}

void HuggingFaceTokenizer::read_added_tokens(const nlohmann::json& list) {
  for (const nlohmann::json& item : list) {
    AddedToken token;
    token.content = item.at("content").get<std::string>();
    if (token.content.empty()) continue;
    token.id = token_id(item.at("id"), "added token '" + token.content + "'", path_);
    const auto known = model_->id_of(token.content);
    const std::string* other = model_->token_of(token.id);
    if ((known && *known != token.id) || (other != nullptr && *other != token.content) ||
        (added_.contains(token.id) && added_[token.id].content != token.content))
      fail(ExitCode::kBadInput, "added token '{}' has id {}, which contradicts the vocabulary, {}, mend the file",
           token.content, token.id, path_);
    token.single_word = item.value("single_word", false);
    token.lstrip = item.value("lstrip", false);
    token.rstrip = item.value("rstrip", false);
    token.normalized = item.value("normalized", true);
    token.special = item.value("special", false);
    vocabulary_ = std::max(vocabulary_, int64_t{token.id} + 1);
    added_[token.id] = token;
    added_ids_[token.content] = token.id;
    std::string storage;
    if (token.normalized)
      normalized_matcher_.add(normalized(token.content, storage), token);
    else
      raw_matcher_.add(token.content, token);
  }
}

void HuggingFaceTokenizer::read_normalizer(const nlohmann::json& description) {
  if (description.is_null()) return;
  const std::string type = description.at("type").get<std::string>();
  const std::pair<const char*, NormalForm> forms[] = {
      {"NFC", NormalForm::kNfc}, {"NFD", NormalForm::kNfd}, {"NFKC", NormalForm::kNfkc}, {"NFKD", NormalForm::kNfkd}};
  for (const auto& [name, form] : forms) {
    if (type != name) continue;
    normalizer_.push_back([form = form](std::string& text) {
      std::string storage;
      if (normalize(text, form, storage).data() != text.data()) text = std::move(storage);
    });
    return;
  }
  if (type == "Prepend") {
    normalizer_.push_back([prefix = description.at("prepend").get<std::string>()](std::string& text) {
      if (!text.empty()) text.insert(0, prefix);
    });
    return;
  }
  if (type == "Replace" && description.at("pattern").contains("String")) {
    const auto from = description["pattern"]["String"].get<std::string>();
    const auto to = description.at("content").get<std::string>();
    normalizer_.push_back([from, to](std::string& text) {
      if (from.empty() || text.find(from) == std::string::npos) return;
      std::string result;
      size_t done = 0;
      for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, done)) {
        result.append(text, done, at - done).append(to);
        done = at + from.size();
      }
      text = result.append(text, done);
    });
    return;
  }
  if (type == "Sequence") {
    for (const auto& step : description.at("normalizers")) {
      if (step.at("type") == "Sequence")
        fail(ExitCode::kBadInput, "a Sequence inside a Sequence of normalizers, {}, write one list", path_);
      read_normalizer(step);
    }
    return;
  }
  fail(ExitCode::kBadInput, "normalizer '{}' is not supported, {}, use a byte-level BPE tokenizer", type, path_);
}

void HuggingFaceTokenizer::read_post_processor(const nlohmann::json& description) {
  if (description.is_null()) return;
  const std::string type = description.at("type").get<std::string>();
  if (type == "ByteLevel") return;  // concerns offsets only
  if (type == "Sequence") {
    for (const auto& step : description.at("processors")) {
      if (step.at("type") == "Sequence")
        fail(ExitCode::kBadInput, "a Sequence inside a Sequence of post-processors, {}, write one list", path_);
      read_post_processor(step);
    }
    return;
  }
  std::vector<uint32_t> before, behind;
  if (type == "TemplateProcessing") {
    bool past_text = false;
    for (const auto& item : description.at("single")) {
      if (item.contains("Sequence")) {
        if (past_text) fail(ExitCode::kBadInput, "a template with the text twice, {}, mend the file", path_);
        past_text = true;
        continue;
      }
      const auto& name = item.at("SpecialToken").at("id").get_ref<const std::string&>();
      for (const auto& id : description.at("special_tokens").at(name).at("ids"))
        (past_text ? behind : before).push_back(token_id(id, "special token '" + name + "'", path_));
    }
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    before.push_back(token_id(description.at("cls").at(1), "cls", path_));
    behind.push_back(token_id(description.at("sep").at(1), "sep", path_));
  } else {
    fail(ExitCode::kBadInput, "post_processor '{}' is not supported, {}, use a byte-level BPE tokenizer", type, path_);
  }
  for (const auto* ids : {&before, &behind})
    for (const uint32_t id : *ids)
      if (model_->token_of(id) == nullptr && !added_.contains(id))
        fail(ExitCode::kBadInput, "the post-processor adds id {}, which no token has, {}, mend the file", id, path_);
  before_.insert(before_.begin(), before.begin(), before.end());  // a later step wraps what an earlier one made
  behind_.insert(behind_.end(), behind.begin(), behind.end());
}

std::string_view HuggingFaceTokenizer::normalized(std::string_view text, std::string& storage) const {
  if (normalizer_.empty()) return text;
  storage = text;
  for (const NormalizerStep& step : normalizer_) step(storage);
  return storage;
}

void HuggingFaceTokenizer::encode_piece(std::string_view piece, Pieces& pieces, std::vector<uint32_t>& ids) const {
  if (piece.size() > Pieces::kLongest) return model_->encode(piece, ids);
  const auto known = pieces.ids.find(piece);
  if (known != pieces.ids.end()) {
    ids.insert(ids.end(), known->second.begin(), known->second.end());
    return;
  }
  std::vector<uint32_t> fresh;
  model_->encode(piece, fresh);
  ids.insert(ids.end(), fresh.begin(), fresh.end());
  if (pieces.ids.size() < Pieces::kMost) pieces.ids.emplace(piece, std::move(fresh));
}

void HuggingFaceTokenizer::encode_gap(std::string_view text, bool at_start, Pieces& pieces,
                                      std::vector<uint32_t>& ids) const {
  if (!splitter_) {
    pre_tokenizer_->split(text, at_start, [&](std::string_view piece) { encode_piece(piece, pieces, ids); });
    return;
  }
  const auto& characters = byte_level_characters();
  for (size_t at = 0, end; at < text.size(); at = end) {
    end = splitter_->next(text, at);
    const std::string_view word = text.substr(at, end - at);
    const uint64_t hash = XXH3_64bits(word.data(), word.size());
    if (const auto known = pieces.words.find(word, hash); !known.empty()) {
      ids.insert(ids.end(), known.begin(), known.end());
      continue;
    }
    pieces.mapped.clear();
    for (const char byte : word) pieces.mapped += characters[static_cast<unsigned char>(byte)];
    const size_t before = ids.size();
    encode_piece(pieces.mapped, pieces, ids);
    pieces.words.put(word, hash, std::span(ids).subspan(before));
  }
}

std::vector<uint32_t> HuggingFaceTokenizer::encode(std::string_view text, bool with_special) const {
  if (const size_t bad = first_invalid_utf8(text); bad != std::string_view::npos)
    fail(ExitCode::kBadInput, "byte {} of the text is not UTF-8, text, convert it to UTF-8", bad);
  std::unique_ptr<Pieces> pieces;
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      pieces = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!pieces) pieces = std::make_unique<Pieces>();

  std::vector<uint32_t> ids;
  if (with_special) ids = before_;
  bool at_start = true;
  const auto token = [&](uint32_t id) {
    ids.push_back(id);
    at_start = false;
  };
  raw_matcher_.split(
      text,
      [&](std::string_view raw) {
        std::string storage;
        normalized_matcher_.split(
            normalized(raw, storage),
            [&](std::string_view gap) {
              encode_gap(gap, at_start, *pieces, ids);
              at_start = false;
            },
            token);
      },
      token);
  if (with_special) ids.insert(ids.end(), behind_.begin(), behind_.end());

  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(pieces));
  return ids;
}

std::string HuggingFaceTokenizer::decode(std::span<const uint32_t> ids, bool skip_special) const {
  std::vector<std::string> parts;
  for (const uint32_t id : ids) {
    const auto added = added_.find(id);
    if (added != added_.end()) {
      if (!skip_special || !added->second.special) parts.push_back(added->second.content);
      continue;
    }
    const std::string* token = model_->token_of(id);
    if (token == nullptr) fail(ExitCode::kBadInput, "no token has id {}, {}, use the model's own tokenizer", id, path_);
    parts.push_back(*token);
  }
  for (const DecoderStep& step : decoder_) step(parts);
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) text += (i > 0 && !has_decoder_ ? " " : "") + parts[i];
  return text;
}

std::optional<uint32_t> HuggingFaceTokenizer::id_of(std::string_view token) const {
  const auto added = added_ids_.find(token);
  return added != added_ids_.end() ? std::optional(added->second) : model_->id_of(token);
}

}  // namespace carillon
