#include "data/tokenizer/sentence_piece.h"

#include <sentencepiece_processor.h>

#include "data/tokenizer/unicode.h"
#include "runtime/error.h"

namespace carillon {
namespace {

constexpr size_t kLargestModel = size_t{64} << 20;

}  // namespace

struct SentencePieceTokenizer::Model {
  std::string path;
  sentencepiece::SentencePieceProcessor processor;
};

SentencePieceTokenizer::SentencePieceTokenizer(const std::string& path, const std::string& model)
    : model_(std::make_unique<Model>()) {
  model_->path = path;
  if (model.size() > kLargestModel)
    fail(ExitCode::kBadInput, "is larger than any real SentencePiece model, {}, fetch it again", path);
  const auto status = model_->processor.LoadFromSerializedProto(model);
  if (!status.ok())
    fail(ExitCode::kBadInput, "is no SentencePiece model ({}), {}, fetch it again", status.ToString(), path);
  if (const int end = model_->processor.eos_id(); end >= 0) eos_ = static_cast<uint32_t>(end);
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

std::vector<uint32_t> SentencePieceTokenizer::encode(std::string_view text, bool with_special) const {
  if (const size_t bad = first_invalid_utf8(text); bad != std::string_view::npos)
    fail(ExitCode::kBadInput, "byte {} of the text is not UTF-8, text, convert it to UTF-8", bad);
  std::vector<int> ids;
  const auto status = model_->processor.Encode({text.data(), text.size()}, &ids);
  if (!status.ok())
    fail(ExitCode::kBadInput, "a text cannot be split ({}), {}, look at it", status.ToString(), model_->path);
  std::vector<uint32_t> result;
  if (with_special && model_->processor.bos_id() >= 0)
    result.push_back(static_cast<uint32_t>(model_->processor.bos_id()));
  result.insert(result.end(), ids.begin(), ids.end());
  return result;
}

std::string SentencePieceTokenizer::decode(std::span<const uint32_t> ids, bool skip_special) const {
  std::vector<int> known;
  for (const uint32_t id : ids) {
    if (id >= static_cast<uint32_t>(vocabulary()))
      fail(ExitCode::kBadInput, "no token has id {}, {}, use the model's own tokenizer", id, model_->path);
    if (skip_special && model_->processor.IsControl(static_cast<int>(id))) continue;
    known.push_back(static_cast<int>(id));
  }
  std::string text;
  const auto status = model_->processor.Decode(known, &text);
  if (!status.ok())
    fail(ExitCode::kBadInput, "tokens cannot be joined ({}), {}, look at them", status.ToString(), model_->path);
  return replace_invalid_utf8(text);
}

int64_t SentencePieceTokenizer::vocabulary() const { return model_->processor.GetPieceSize(); }

std::optional<uint32_t> SentencePieceTokenizer::id_of(std::string_view token) const {
  const int id = model_->processor.PieceToId({token.data(), token.size()});
  if (id == model_->processor.unk_id() && token != model_->processor.IdToPiece(id)) return std::nullopt;
  return static_cast<uint32_t>(id);
}

}  // namespace carillon
