// Token files: documents as token ids in HDF5, made once by `carillon tokenize` (data/README.md, "Token files").
//   tokens          [tokens] uint32
//   document_begin  [documents + 1] int64: where each document starts
//   weights         [tokens] float64, weight of each token as a target; absent if all are 1
//   block_hashes    [⌈tokens / 65536⌉] int64: XXH3 of each block of tokens and their weights
// The root has the attributes `content_hash`, over document_begin and block_hashes, and `tokenizer_hash`, of the
// tokenizer that made the ids. Each block is verified when it is first read, at the cost of hashing it (2 GB/s on a
// busy core). Older files without hashes are read unverified.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/files/hdf5_file.h"
#include "data/tokenizer/tokenizer.h"

namespace carillon {

class DocumentReader;

class TokenFile {
 public:
  // Errors: 66 if the file does not exist; 65 if it is not a token file or its parts are inconsistent or do not match
  // their hash.
  explicit TokenFile(const std::string& path);

  int64_t documents() const { return static_cast<int64_t>(document_begin_.size()) - 1; }
  int64_t tokens() const { return document_begin_.back(); }
  bool weighted() const { return weighted_; }
  // "89ab…", 32 digits; absent in older files without hashes.
  const std::optional<std::string>& content_hash() const { return content_hash_; }
  // 16 digits (tokenizer_hash_text); absent if no tokenizer was involved.
  const std::optional<std::string>& tokenizer_hash() const { return tokenizer_hash_; }
  // Reads one document; `weights` stays empty if the file has none. Error 65, naming the tokens that do not match their
  // hash. Not thread-safe.
  void read(int64_t document, std::vector<uint32_t>& tokens, std::vector<double>& weights) const;
  // Reads and verifies the whole file: error 65 if a hash does not match.
  void verify() const;

 private:
  void load(int64_t block) const;

  Hdf5File file_;
  std::vector<int64_t> document_begin_, block_hashes_;
  std::optional<std::string> content_hash_, tokenizer_hash_;
  bool weighted_ = false;
  // The block read last.
  mutable int64_t block_ = -1;
  mutable std::vector<uint32_t> block_tokens_;
  mutable std::vector<double> block_weights_;
};

// A tokenizer's hash as written in files.
std::string tokenizer_hash_text(const Tokenizer& tokenizer);

struct TokenFileCounts {
  int64_t documents = 0;
  int64_t tokens = 0;
};
// Writes all documents of `reader` to `path`, completely or not at all. `tokenizer` is the one that encodes the
// reader's texts, if any; its hash is recorded. `notice` is called with progress. Errors 73, 74 and the reader's.
TokenFileCounts write_token_file(
    const std::string& path, DocumentReader& reader, const Tokenizer* tokenizer = nullptr,
    const std::function<void(const std::string&)>& notice = [](const std::string&) {});

}  // namespace carillon
