#include "data/corpus/token_file.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>

#include "data/corpus/document_reader.h"
#include "data/corpus/token_store.h"
#include "data/files/output_file.h"
#include "runtime/error.h"

namespace carillon {
namespace {

constexpr const char* kKind = "carillon tokens 1";
constexpr int64_t kBlock = 65536;  // tokens

Rectangle run_of(int64_t total, int64_t begin, int64_t count) { return {{total}, {begin}, {count}}; }
int64_t blocks_of(int64_t tokens) { return (tokens + kBlock - 1) / kBlock; }

int64_t hash_of_block(const uint32_t* tokens, const double* weights, int64_t count) {
  const uint64_t hash = XXH3_64bits(tokens, sizeof(uint32_t) * static_cast<size_t>(count));
  if (weights == nullptr) return static_cast<int64_t>(hash);
  return static_cast<int64_t>(XXH3_64bits_withSeed(weights, sizeof(double) * static_cast<size_t>(count), hash));
}

std::string hash_of_content(const std::vector<int64_t>& begin, const std::vector<int64_t>& blocks) {
  const uint64_t seed = XXH3_64bits(blocks.data(), sizeof(int64_t) * blocks.size());
  const XXH128_hash_t hash = XXH3_128bits_withSeed(begin.data(), sizeof(int64_t) * begin.size(), seed);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

// Weights must be finite and not negative: one NaN makes every loss NaN.
void refuse_bad_weights(const std::vector<double>& weights, int64_t document, const std::string& path) {
  const auto bad =
      std::find_if(weights.begin(), weights.end(), [](double value) { return !(value >= 0 && std::isfinite(value)); });
  if (bad != weights.end())
    fail(ExitCode::kBadInput, "the weight of token {} in document {} is {}, {}, make the file again",
         bad - weights.begin(), document, *bad, path);
}

}  // namespace

std::string tokenizer_hash_text(const Tokenizer& tokenizer) { return fmt::format("{:016x}", tokenizer.hash()); }

TokenFile::TokenFile(const std::string& path) : file_(Hdf5File::open(path)) {
  const auto tokens = file_.find("tokens"), begin = file_.find("document_begin"), weights = file_.find("weights");
  if (file_.attribute("kind") != kKind || !tokens || !begin || tokens->type != StoredType::kUInt32 ||
      begin->type != StoredType::kInt64 || tokens->shape.size() != 1 || begin->shape.size() != 1 ||
      begin->shape[0] < 1 || (weights && (weights->type != StoredType::kFloat64 || weights->shape != tokens->shape)))
    fail(ExitCode::kBadInput, "is not a token file, {}, make it with carillon tokenize", path);
  document_begin_.resize(static_cast<size_t>(begin->shape[0]));
  file_.read("document_begin", Rectangle::whole(begin->shape), document_begin_.data());
  bool rising = document_begin_.front() == 0 && document_begin_.back() == tokens->shape[0];
  for (size_t i = 1; i < document_begin_.size(); ++i) rising = rising && document_begin_[i - 1] < document_begin_[i];
  if (!rising) fail(ExitCode::kBadInput, "its documents do not follow one another, {}, create it again", path);
  weighted_ = weights.has_value();
  tokenizer_hash_ = file_.attribute("tokenizer_hash");
  content_hash_ = file_.attribute("content_hash");
  const auto hashes = file_.find("block_hashes");
  if (!content_hash_ && !hashes) return;
  if (content_hash_ && hashes && hashes->type == StoredType::kInt64 &&
      hashes->shape == std::vector<int64_t>{blocks_of(tokens->shape[0])}) {
    block_hashes_.resize(static_cast<size_t>(hashes->shape[0]));
    file_.read("block_hashes", Rectangle::whole(hashes->shape), block_hashes_.data());
  }
  if (content_hash_ != hash_of_content(document_begin_, block_hashes_))
    fail(ExitCode::kBadInput, "does not match its own hash, {}, create it again with carillon tokenize", path);
}

void TokenFile::load(int64_t block) const {
  if (block == block_) return;
  const int64_t begin = block * kBlock, count = std::min(kBlock, tokens() - begin);
  const Rectangle rectangle = run_of(tokens(), begin, count);
  block_ = -1;
  block_tokens_.resize(static_cast<size_t>(count));
  file_.read("tokens", rectangle, block_tokens_.data());
  if (weighted_) {
    block_weights_.resize(static_cast<size_t>(count));
    file_.read("weights", rectangle, block_weights_.data());
  }
  if (content_hash_ && hash_of_block(block_tokens_.data(), weighted_ ? block_weights_.data() : nullptr, count) !=
                           block_hashes_[static_cast<size_t>(block)])
    fail(ExitCode::kBadInput, "tokens {} to {} do not match their hash, {}, create it again with carillon tokenize",
         begin, begin + count - 1, file_.path());
  block_ = block;
}

void TokenFile::read(int64_t document, std::vector<uint32_t>& tokens, std::vector<double>& weights) const {
  const int64_t begin = document_begin_[static_cast<size_t>(document)];
  const int64_t end = document_begin_[static_cast<size_t>(document) + 1];
  tokens.clear();
  tokens.reserve(static_cast<size_t>(end - begin));
  if (weighted_) weights.clear();
  for (int64_t at = begin, stop = 0; at < end; at = stop) {
    const int64_t block = at / kBlock;
    load(block);
    stop = std::min(end, (block + 1) * kBlock);
    const int64_t from = at - block * kBlock, to = stop - block * kBlock;
    tokens.insert(tokens.end(), block_tokens_.begin() + from, block_tokens_.begin() + to);
    if (weighted_) weights.insert(weights.end(), block_weights_.begin() + from, block_weights_.begin() + to);
  }
  if (weighted_) refuse_bad_weights(weights, document, file_.path());
}

void TokenFile::verify() const {
  for (int64_t block = 0; block < blocks_of(tokens()); ++block) load(block);
}

TokenFileCounts write_token_file(const std::string& path, DocumentReader& reader, const Tokenizer* tokenizer,
                                 const std::function<void(const std::string&)>& notice) {
  // Reads into a temporary token cache first, so that the sizes are known and little memory is needed.
  const TemporaryFile spool(path);
  build_token_cache(spool.name(), reader, notice);
  const TokenStore store(spool.name());
  store.verify(0, store.token_count());
  const int64_t tokens = store.token_count(), documents = store.documents();
  const double* weights = store.weights().empty() ? nullptr : store.weights().data();
  std::vector<int64_t> hashes;
  for (int64_t begin = 0; begin < tokens; begin += kBlock)
    hashes.push_back(hash_of_block(store.tokens().data() + begin, weights == nullptr ? nullptr : weights + begin,
                                   std::min(kBlock, tokens - begin)));
  TemporaryFile temporary(path);
  Hdf5File file = Hdf5File::create(temporary.name());
  file.set_short_attribute("kind", kKind);
  file.set_short_attribute("content_hash",
                           hash_of_content({store.document_begin().begin(), store.document_begin().end()}, hashes));
  if (tokenizer != nullptr) file.set_short_attribute("tokenizer_hash", tokenizer_hash_text(*tokenizer));
  file.create_dataset({"tokens", StoredType::kUInt32, {tokens}});
  file.create_dataset({"document_begin", StoredType::kInt64, {documents + 1}});
  file.create_dataset({"block_hashes", StoredType::kInt64, {blocks_of(tokens)}});
  file.write("tokens", run_of(tokens, 0, tokens), store.tokens().data());
  file.write("document_begin", run_of(documents + 1, 0, documents + 1), store.document_begin().data());
  file.write("block_hashes", run_of(blocks_of(tokens), 0, blocks_of(tokens)), hashes.data());
  if (weights != nullptr) {
    file.create_dataset({"weights", StoredType::kFloat64, {tokens}});
    file.write("weights", run_of(tokens, 0, tokens), weights);
  }
  file.close();
  sync_path(temporary.name());
  temporary.commit();
  return {documents, tokens};
}

}  // namespace carillon
