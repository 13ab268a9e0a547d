#include "data/tokenizer/hugging_face_tokenizer.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/tokenizer/sequence_depth.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/word_cache.h"
#include "runtime/check.h"
#include "runtime/json_fields.h"
#include "runtime/progress.h"

namespace carillon {
// Words repeat: in natural text all but a few per cent are found here. Both bounds only limit memory (about 20 MB).
struct HuggingFaceTokenizer::Pieces {
  static constexpr size_t kMost = size_t{1} << 17;
  static constexpr size_t kLongest = 64;
  StringMap<std::vector<uint32_t>> ids;
  WordCache words;
  std::string mapped;
};

namespace {

// Called before any code recurses over the JSON.
void refuse_deep_json(std::string_view text, const std::string& where) {
  constexpr int kDeepest = 64;
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepest)
        fail(ExitCode::kBadInput, "not a tokenizer file (brackets {} deep), {}, copy it again", depth, where);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

// get<uint32_t>() would wrap values out of range.
uint32_t token_id(const nlohmann::json& id, const std::string& what, const std::string& where) {
  if (!id.is_number_unsigned() || id.get<uint64_t>() >= (uint64_t{1} << 31))
    fail(ExitCode::kBadInput, "the id of {} is {}, {}, ids are integers from 0", what, id.dump(), where);
  return id.get<uint32_t>();
}

}  // namespace

HuggingFaceTokenizer::HuggingFaceTokenizer(const std::string& path, std::string_view text, const TokenFiles& beside) {
  path_ = path;
  hash_ = XXH3_64bits(text.data(), text.size());
  constexpr size_t kLargest = size_t{1} << 30;  // the largest in use has 40 MB
  if (text.size() > kLargest)
    fail(ExitCode::kBadInput, "is larger than any real tokenizer file, {}, copy it again", path_);
  refuse_deep_json(text, path_);
  try {
    read(nlohmann::json::parse(text), beside);
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::kBadInput, "not a tokenizer file ({}), {}, copy it again", error.what(), path_);
  }
}

HuggingFaceTokenizer::~HuggingFaceTokenizer() = default;

void HuggingFaceTokenizer::read(const nlohmann::json& file, const TokenFiles& beside) {
  const auto part = [&](const char* key) { return file.contains(key) ? file[key] : nlohmann::json(); };
  const nlohmann::json& model = file.at("model");
  // Old files have no type, but only BPE models have merges.
  const std::string type = model.value("type", model.contains("merges") ? "BPE" : "unknown");
  if (type != "BPE")
    fail(ExitCode::kBadInput, "model type '{}' is not supported, {}, use a BPE tokenizer", type, path_);
  model_ = std::make_unique<BytePairModel>(model, path_);
  for (const auto& [token, id] : model_->tokens()) vocabulary_ = std::max(vocabulary_, int64_t{id} + 1);
  normalizer_ = std::make_unique<Normalizer>(part("normalizer"), path_);
  pre_tokenizer_ = PreTokenizer::make(part("pre_tokenizer"), path_);
  if (const auto known = pre_tokenizer_->known(); known.maps_bytes) splitter_ = known.splitter;
  read_added_tokens(part("added_tokens"), beside);
  maps_bytes_ = pre_tokenizer_->maps_bytes();
  if (const nlohmann::json post = part("post_processor"); !post.is_null()) read_post_processor(post, 0);
  const nlohmann::json decoder = part("decoder");
  has_decoder_ = !decoder.is_null();
  if (has_decoder_) decoder_ = make_token_decoder(decoder, path_);
}

void HuggingFaceTokenizer::read_added_tokens(const nlohmann::json& list, const TokenFiles& beside) {
  std::vector<AddedToken> tokens;
  for (const nlohmann::json& item : list) {
    AddedToken token;
    token.content = item.at("content").get<std::string>();
    if (token.content.empty()) continue;
    token.id = token_id(item.at("id"), "added token '" + token.content + "'", path_);
    token.single_word = item.value("single_word", false);
    token.lstrip = item.value("lstrip", false);
    token.rstrip = item.value("rstrip", false);
    token.normalized = item.value("normalized", true);
    token.special = item.value("special", false);
    tokens.push_back(std::move(token));
  }
  if (!beside.empty()) add_tokens_beside(beside, tokens);
  for (const AddedToken& token : tokens) add(token);
  listed_ = std::move(tokens);
  std::stable_sort(listed_.begin(), listed_.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
}

// Adds tokens as transformers does: an existing token keeps its id, whatever the files say; a new one gets its id in
// the vocabulary, or else the next free one. Every change is included in the hash.
void HuggingFaceTokenizer::add_tokens_beside(const TokenFiles& beside, std::vector<AddedToken>& tokens) {
  const TokenConfiguration configuration(beside, path_);
  StringMap<size_t> place;
  for (size_t i = 0; i < tokens.size(); ++i) place[tokens[i].content] = i;
  const auto next_id = [&] {
    auto next = static_cast<uint32_t>(model_->tokens().size());
    for (const AddedToken& token : tokens) next = std::max(next, token.id + 1);
    return next;
  };
  const auto take = [&](AddedToken token, bool replaces) {
    const auto [found, fresh] = place.emplace(token.content, tokens.size());
    if (fresh) {
      token.id = model_->id_of(token.content).value_or(next_id());
      tokens.push_back(token);
    } else {
      AddedToken& former = tokens[found->second];
      token.id = former.id;
      if (!replaces || former == token) return;
      former = token;
    }
    const std::string said = fmt::format("{} {} {}{}{}{}{}", token.content, token.id, token.single_word, token.lstrip,
                                         token.rstrip, token.normalized, token.special);
    hash_ ^= XXH3_64bits(said.data(), said.size());
  };
  const bool replaces = configuration.is_complete();  // added_tokens.json has no flags
  for (const AddedToken& token : configuration.added_tokens()) take(token, replaces);
  const auto id_of = [&](std::string_view text) {
    const auto found = place.find(text);
    return found != place.end() ? std::optional(tokens[found->second].id) : model_->id_of(text);
  };
  for (const AddedToken& token : configuration.special_tokens(id_of)) take(token, false);
}

void HuggingFaceTokenizer::add(const AddedToken& token) {
  const auto known = model_->id_of(token.content);
  const std::string* other = model_->token_of(token.id);
  if ((known && *known != token.id) || (other != nullptr && *other != token.content) ||
      (added_.contains(token.id) && added_[token.id].content != token.content))
    fail(ExitCode::kBadInput, "added token '{}' has id {}, which contradicts the vocabulary, {}, fix the file",
         token.content, token.id, path_);
  vocabulary_ = std::max(vocabulary_, int64_t{token.id} + 1);
  added_[token.id] = token;
  added_ids_[token.content] = token.id;
  if (!token.normalized) {
    raw_matcher_.add(token.content, token);
    return;
  }
  const std::string sought = normalizer_->normalized(token.content);
  normalized_matcher_.add(sought, token);
  // The library decodes such a token to its normalised content, but finds special tokens to omit by their original
  // content.
  if (sought == token.content) return;
  added_[token.id].decoded = sought;
  added_[token.id].special = false;
}

void HuggingFaceTokenizer::read_post_processor(const nlohmann::json& description, int depth) {
  check_sequence_depth(depth, path_);
  const std::string type = description.at("type").get<std::string>();
  if (type == "ByteLevel") return;  // only concerns offsets
  if (type == "Sequence") {
    for (const auto& step : description.at("processors")) read_post_processor(step, depth + 1);
    return;
  }
  std::vector<uint32_t> before, behind;
  if (type == "TemplateProcessing") {
    bool past_text = false;
    for (const auto& item : description.at("single")) {
      if (item.contains("Sequence")) {
        if (past_text) fail(ExitCode::kBadInput, "a template with the text twice, {}, fix the file", path_);
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
        fail(ExitCode::kBadInput, "the post-processor adds id {}, which no token has, {}, fix the file", id, path_);
  before_.insert(before_.begin(), before.begin(), before.end());  // a later step wraps the result of an earlier one
  behind_.insert(behind_.end(), behind.begin(), behind.end());
}

void HuggingFaceTokenizer::encode_piece(std::string_view piece, Pieces& pieces, std::vector<uint32_t>& ids) const {
  count_progress();
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

void HuggingFaceTokenizer::encode_gap(std::string_view text, bool at_start, Pieces& pieces, std::vector<uint32_t>& ids,
                                      Spans* spans) const {
  if (!splitter_) {
    pre_tokenizer_->split(PreTokenizer::Piece::whole(text), at_start, [&](const PreTokenizer::Piece& piece) {
      encode_piece(piece.text, pieces, ids);
      if (spans != nullptr) spans->emplace_back(ids.size(), piece.end);
    });
    return;
  }
  const auto& characters = byte_level_characters();
  for (size_t at = 0, end; at < text.size(); at = end) {
    end = splitter_->next(text, at);
    const std::string_view word = text.substr(at, end - at);
    const uint64_t hash = XXH3_64bits(word.data(), word.size());
    if (const auto known = pieces.words.find(word, hash); !known.empty()) {
      ids.insert(ids.end(), known.begin(), known.end());
    } else {
      pieces.mapped.clear();
      for (const char byte : word) pieces.mapped += characters[static_cast<unsigned char>(byte)];
      const size_t before = ids.size();
      encode_piece(pieces.mapped, pieces, ids);
      pieces.words.put(word, hash, std::span(ids).subspan(before));
    }
    if (spans != nullptr) spans->emplace_back(ids.size(), end);
  }
}

// Divides the bytes of each piece, and of what was removed before it, among its tokens in proportion to the lengths of
// their texts. This is exact if each character of a token is a byte of the source, or a token is part of the source.
void HuggingFaceTokenizer::share_out(const std::vector<uint32_t>& ids, const Spans& spans,
                                     std::vector<size_t>& ends) const {
  const auto length = [&](uint32_t id) -> size_t {
    const std::string* token = model_->token_of(id);
    if (token == nullptr) return 1;
    if (!maps_bytes_) return token->size() == 6 && token->starts_with("<0x") ? 1 : token->size();
    return static_cast<size_t>(std::count_if(token->begin(), token->end(), [](char c) { return (c & 0xC0) != 0x80; }));
  };
  size_t begin = ends.empty() ? 0 : ends.back();
  for (const auto& [count, end] : spans) {
    const size_t first = ends.size();
    size_t total = 0, so_far = 0;
    for (size_t i = first; i < count; ++i) total += length(ids[i]);
    for (size_t i = first; i < count; ++i) {
      so_far += length(ids[i]);
      ends.push_back(begin + (std::max(begin, end) - begin) * so_far / std::max<size_t>(total, 1));
    }
    if (count > first) begin = ends.back();
  }
}

std::vector<uint32_t> HuggingFaceTokenizer::encode(std::string_view text, bool with_special,
                                                   std::vector<size_t>* ends) const {
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
  Spans spans, of_gap;
  if (ends != nullptr) spans.emplace_back(ids.size(), 0);
  bool at_start = true;
  const auto encode_plain = [&](std::string_view gap, const NormalizedText* source, size_t behind, size_t offset) {
    of_gap.clear();
    encode_gap(gap, at_start, *pieces, ids, ends != nullptr ? &of_gap : nullptr);
    at_start = false;
    for (const auto& [count, end] : of_gap)
      spans.emplace_back(count, offset + (source != nullptr ? source->source_end(behind + end) : behind + end));
  };
  const auto token = [&](uint32_t id, size_t end) {
    ids.push_back(id);
    at_start = false;
    if (ends != nullptr) spans.emplace_back(ids.size(), end);
  };
  raw_matcher_.split(
      text,
      [&](std::string_view raw) {
        const auto offset = static_cast<size_t>(raw.data() - text.data());
        if (normalizer_->empty() && normalized_matcher_.empty()) return encode_plain(raw, nullptr, 0, offset);
        NormalizedText normalized(raw, ends != nullptr);
        normalizer_->run(normalized);
        at_start = at_start && normalized.keeps_start();
        const std::string_view all = normalized.text();
        normalized_matcher_.split(
            all,
            [&](std::string_view gap) {
              encode_plain(gap, &normalized, static_cast<size_t>(gap.data() - all.data()), offset);
            },
            [&](uint32_t id, size_t end) { token(id, offset + normalized.source_end(end)); });
      },
      token);
  if (ends != nullptr) {
    ends->clear();
    ends->reserve(ids.size());
    share_out(ids, spans, *ends);
    if (!ends->empty() && ends->size() > (with_special ? before_.size() : 0)) ends->back() = text.size();
  }
  if (with_special) ids.insert(ids.end(), behind_.begin(), behind_.end());
  if (ends != nullptr) ends->resize(ids.size(), text.size());

  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(pieces));
  return ids;
}

std::string HuggingFaceTokenizer::decode(std::span<const uint32_t> ids, bool skip_special) const {
  std::vector<std::string> parts;
  for (const uint32_t id : ids) {
    const auto added = added_.find(id);
    if (added != added_.end()) {
      if (!skip_special || !added->second.special)
        parts.push_back(added->second.decoded.value_or(added->second.content));
      continue;
    }
    const std::string* token = model_->token_of(id);
    if (token != nullptr) parts.push_back(*token);
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
