#include "data/corpus/token_file.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "data/corpus/document_reader.h"
#include "data/corpus/token_store.h"

namespace carillon {
namespace {

constexpr const char* kKind = "carillon tokens 1";

Rectangle run_of(int64_t total, int64_t begin, int64_t count) { return {{total}, {begin}, {count}}; }

// Weights of targets are finite and not negative: a NaN among them makes every loss NaN.
void refuse_bad_weights(const std::vector<double>& weights, int64_t document, const std::string& path) {
  const auto bad =
      std::find_if(weights.begin(), weights.end(), [](double value) { return !(value >= 0 && std::isfinite(value)); });
  if (bad != weights.end())
    fail(ExitCode::kBadInput, "the weight of token {} in document {} is {}, {}, make the file again",
         bad - weights.begin(), document, *bad, path);
}

}  // namespace

TokenFile::TokenFile(const std::string& path) : file_(Hdf5File::open(path)) {
  const auto tokens = file_.find("tokens"), begin = file_.find("document_begin"), weights = file_.find("weights");
  if (file_.attribute("kind") != kKind || !tokens || !begin || tokens->type != StoredType::kUInt32 ||
      begin->type != StoredType::kInt64 || tokens->shape.size() != 1 || begin->shape.size() != 1 ||
      begin->shape[0] < 1 || (weights && (weights->type != StoredType::kFloat64 || weights->shape != tokens->shape)))
    fail(ExitCode::kBadInput, "is no token file, {}, make it with carillon tokenize", path);
  document_begin_.resize(static_cast<size_t>(begin->shape[0]));
  file_.read("document_begin", Rectangle::whole(begin->shape), document_begin_.data());
  bool rising = document_begin_.front() == 0 && document_begin_.back() == tokens->shape[0];
  for (size_t i = 1; i < document_begin_.size(); ++i) rising = rising && document_begin_[i - 1] < document_begin_[i];
  if (!rising) fail(ExitCode::kBadInput, "its documents do not follow one another, {}, make it again", path);
  weighted_ = weights.has_value();
}

void TokenFile::read(int64_t document, std::vector<uint32_t>& tokens, std::vector<double>& weights) const {
  const int64_t begin = document_begin_[static_cast<size_t>(document)];
  const int64_t count = document_begin_[static_cast<size_t>(document) + 1] - begin;
  const Rectangle rectangle = run_of(document_begin_.back(), begin, count);
  tokens.resize(static_cast<size_t>(count));
  file_.read("tokens", rectangle, tokens.data());
  if (!weighted_) return;
  weights.resize(static_cast<size_t>(count));
  file_.read("weights", rectangle, weights.data());
  refuse_bad_weights(weights, document, file_.path());
}

TokenFileCounts write_token_file(const std::string& path, DocumentReader& reader) {
  // Read into a token cache beside the file first: sizes are then known, and memory stays small.
  namespace fs = std::filesystem;
  const std::string spool = fmt::format("{}.tmp-{}.tokens", path, getpid());
  const std::string temporary = fmt::format("{}.tmp-{}", path, getpid());
  struct Cleanup {
    std::string a, b;
    ~Cleanup() {
      std::remove(a.c_str());
      std::remove(b.c_str());
    }
  } cleanup{spool, temporary};
  build_token_cache(spool, reader, [](const std::string&) {});
  const TokenStore store(spool);
  const auto alone = solo_communicator("file");
  Hdf5File file = Hdf5File::create(temporary, *alone);
  file.set_attribute("kind", kKind);
  file.create_dataset({"tokens", StoredType::kUInt32, {store.token_count()}});
  file.create_dataset({"document_begin", StoredType::kInt64, {store.documents() + 1}});
  file.write("tokens", run_of(store.token_count(), 0, store.token_count()), store.tokens().data());
  file.write("document_begin", run_of(store.documents() + 1, 0, store.documents() + 1), store.document_begin().data());
  if (!store.weights().empty()) {
    file.create_dataset({"weights", StoredType::kFloat64, {store.token_count()}});
    file.write("weights", run_of(store.token_count(), 0, store.token_count()), store.weights().data());
  }
  file.close();
  if (std::rename(temporary.c_str(), path.c_str()) != 0)
    fail(ExitCode::kCannotCreate, "cannot be created, {}, check that the folder is writable", path);
  return {store.documents(), store.token_count()};
}

}  // namespace carillon
