#include "data/tokenizer/sentence_piece.h"

#include <sentencepiece_processor.h>

#include <algorithm>

#include "data/tokenizer/unicode.h"
#include "runtime/error.h"

namespace carillon {
namespace {

constexpr size_t kLargestModel = size_t{64} << 20;

// If appended to a model, sets normalizer_spec.add_dummy_prefix to false: protocol buffers merge a message that occurs
// twice.
constexpr std::string_view kWithoutBlank("\x1A\x02\x18\x00", 4);

}  // namespace

struct SentencePieceTokenizer::Model {
  std::string path;
  sentencepiece::SentencePieceProcessor processor, without_blank;
  bool has_without_blank = false;
  bool keeps_blanks = false;  // blanks at the beginning of a text are encoded as tokens

  void load(sentencepiece::SentencePieceProcessor& into, const std::string& model) const {
    std::string reason;
    try {
      const auto status = into.LoadFromSerializedProto(model);
      if (status.ok()) return;
      reason = status.ToString();
    } catch (const std::exception& error) {  // of the library's tree of pieces, for example if a piece is empty
      reason = error.what();
    }
    fail(ExitCode::kBadInput, "is not a SentencePiece model ({}), {}, fetch it again", reason, path);
  }
};

SentencePieceTokenizer::SentencePieceTokenizer(const std::string& path, const std::string& model,
                                               const TokenFiles& beside)
    : model_(std::make_unique<Model>()) {
  model_->path = path;
  if (model.size() > kLargestModel)
    fail(ExitCode::kBadInput, "is larger than any real SentencePiece model, {}, fetch it again", path);
  model_->load(model_->processor, model);
  if (const int begin = model_->processor.bos_id(); begin >= 0) begin_ = static_cast<uint32_t>(begin);
  if (const int end = model_->processor.eos_id(); end >= 0) eos_ = static_cast<uint32_t>(end);
  read_beside(beside, model);
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

void SentencePieceTokenizer::add(AddedToken token) {
  if (token.content.empty()) return;
  const auto known = id_of(token.content);
  if (known && *known != token.id)
    fail(ExitCode::kBadInput, "added token '{}' has id {} and {}, beside {}, fix the files", token.content, token.id,
         *known, model_->path);
  if (token.id < static_cast<uint32_t>(model_->processor.GetPieceSize()) &&
      model_->processor.IdToPiece(static_cast<int>(token.id)) != token.content)
    fail(ExitCode::kBadInput, "added token '{}' has id {} of the piece '{}', beside {}, fix the files", token.content,
         token.id, model_->processor.IdToPiece(static_cast<int>(token.id)), model_->path);
  const auto other = added_by_id_.find(token.id);
  if (other != added_by_id_.end() && other->second.content != token.content)
    fail(ExitCode::kBadInput, "added tokens '{}' and '{}' both have id {}, beside {}, fix the files", token.content,
         other->second.content, token.id, model_->path);
  if (!added_.emplace(token.content, token).second) return;
  added_by_id_[token.id] = token;
  matcher_.add(token.content, token);
}

void SentencePieceTokenizer::read_beside(const TokenFiles& beside, const std::string& model) {
  if (beside.empty()) return;
  const TokenConfiguration configuration(beside, model_->path);
  for (AddedToken& token : configuration.added_tokens()) add(std::move(token));
  for (AddedToken& token : configuration.special_tokens([&](std::string_view text) { return id_of(text); }))
    if (!added_.contains(token.content)) add(std::move(token));
  for (const auto& [key, token] : {std::pair{"bos_token", &begin_}, std::pair{"eos_token", &eos_}})
    if (const auto id = id_of(configuration.token(key))) *token = id;
  if (!configuration.flag("add_bos_token", true)) begin_.reset();
  if (configuration.flag("add_eos_token", false)) end_ = eos_;
  blank_before_all_ = configuration.flag("legacy", false);
  model_->load(model_->without_blank, model + std::string(kWithoutBlank));
  model_->has_without_blank = true;
  std::vector<int> one, two;
  model_->without_blank.Encode("a", &one).IgnoreError();
  model_->without_blank.Encode("  a", &two).IgnoreError();
  model_->keeps_blanks = one != two;
}

void SentencePieceTokenizer::encode_part(std::string_view text, bool with_blank, std::vector<uint32_t>& ids,
                                         std::vector<size_t>* ends, size_t offset) const {
  const auto& processor = with_blank ? model_->processor : model_->without_blank;
  const auto refuse = [&](const auto& status) {
    if (!status.ok())
      fail(ExitCode::kBadInput, "a text cannot be split ({}), {}, look at it", status.ToString(), model_->path);
  };
  if (ends == nullptr) {
    std::vector<int> found;
    refuse(processor.Encode({text.data(), text.size()}, &found));
    ids.insert(ids.end(), found.begin(), found.end());
    return;
  }
  sentencepiece::ImmutableSentencePieceText pieces;
  refuse(processor.Encode({text.data(), text.size()}, pieces.mutable_proto()));
  const size_t count = pieces.pieces_size();
  for (size_t i = 0; i < count; ++i) {
    const auto piece = pieces.pieces(static_cast<int>(i));
    ids.push_back(piece.id());
    ends->push_back(std::max(offset + piece.end(), ends->empty() ? size_t{0} : ends->back()));
  }
}

std::vector<uint32_t> SentencePieceTokenizer::encode(std::string_view text, bool with_special,
                                                     std::vector<size_t>* ends) const {
  if (const size_t bad = first_invalid_utf8(text); bad != std::string_view::npos)
    fail(ExitCode::kBadInput, "byte {} of the text is not UTF-8, text, convert it to UTF-8", bad);
  std::vector<uint32_t> ids;
  if (ends != nullptr) ends->clear();
  const auto special = [&](std::optional<uint32_t> id, size_t end) {
    if (!id) return;
    ids.push_back(*id);
    if (ends != nullptr) ends->push_back(end);
  };
  if (with_special) special(begin_, 0);
  const size_t before = ids.size();
  bool first = true;
  matcher_.split(
      text,
      [&](std::string_view gap) {
        const bool begins_blank = model_->keeps_blanks && (gap.starts_with(' ') || gap.starts_with("\u2581"));
        const bool with_blank = !model_->has_without_blank || ((first || blank_before_all_) && !begins_blank);
        encode_part(gap, with_blank, ids, ends, static_cast<size_t>(gap.data() - text.data()));
        first = false;
      },
      [&](uint32_t id, size_t end) {
        special(id, end);
        first = false;
      });
  if (ends != nullptr && ids.size() > before) ends->back() = text.size();
  if (with_special) special(end_, text.size());
  return ids;
}

std::string SentencePieceTokenizer::decode(std::span<const uint32_t> ids, bool skip_special) const {
  std::string text;
  std::vector<int> known;
  bool first = true;
  const auto flush = [&] {
    if (known.empty()) return;
    std::string part;
    const auto& processor = first || !model_->has_without_blank ? model_->processor : model_->without_blank;
    const auto status = processor.Decode(known, &part);
    if (!status.ok())
      fail(ExitCode::kBadInput, "tokens cannot be joined ({}), {}, look at them", status.ToString(), model_->path);
    text += part;
    known.clear();
    first = false;
  };
  for (const uint32_t id : ids) {
    if (const auto added = added_by_id_.find(id); added != added_by_id_.end()) {
      if (skip_special && added->second.special) continue;
      flush();
      text += added->second.content;
      first = false;
      continue;
    }
    if (id >= static_cast<uint32_t>(model_->processor.GetPieceSize())) continue;
    if (skip_special && model_->processor.IsControl(static_cast<int>(id))) continue;
    known.push_back(static_cast<int>(id));
  }
  flush();
  return replace_invalid_utf8(text);
}

int64_t SentencePieceTokenizer::vocabulary() const {
  int64_t size = model_->processor.GetPieceSize();
  for (const auto& [id, token] : added_by_id_) size = std::max(size, int64_t{id} + 1);
  return size;
}

std::vector<AddedToken> SentencePieceTokenizer::added_tokens() const {
  std::vector<AddedToken> tokens;
  for (const auto& [id, token] : added_by_id_) tokens.push_back(token);
  std::sort(tokens.begin(), tokens.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return tokens;
}

std::optional<uint32_t> SentencePieceTokenizer::id_of(std::string_view token) const {
  if (const auto added = added_.find(std::string(token)); added != added_.end()) return added->second.id;
  const int id = model_->processor.PieceToId({token.data(), token.size()});
  if (id < 0 || (id == model_->processor.unk_id() && token != model_->processor.IdToPiece(id))) return std::nullopt;
  return static_cast<uint32_t>(id);
}

}  // namespace carillon
