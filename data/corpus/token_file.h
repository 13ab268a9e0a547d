// Token files: documents as token ids in HDF5, made once by `carillon tokenize` (data/README.md, "Token files").
//   tokens          [tokens] uint32
//   document_begin  [documents + 1] int64: where each document starts
//   weights         [tokens] float64, weight of each token as a target; absent when all are 1
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/files/hdf5_file.h"

namespace carillon {

class DocumentReader;

class TokenFile {
 public:
  // Errors: 66 not there, 65 when it is no token file or its parts do not fit together.
  explicit TokenFile(const std::string& path);

  int64_t documents() const { return static_cast<int64_t>(document_begin_.size()) - 1; }
  int64_t tokens() const { return document_begin_.back(); }
  bool weighted() const { return weighted_; }
  // weights: left empty when the file has none.
  void read(int64_t document, std::vector<uint32_t>& tokens, std::vector<double>& weights) const;

 private:
  Hdf5File file_;
  std::vector<int64_t> document_begin_;
  bool weighted_ = false;
};

struct TokenFileCounts {
  int64_t documents = 0;
  int64_t tokens = 0;
};
// Writes all documents of `reader` to `path`, whole or not at all. Errors 73, 74 and the reader's.
TokenFileCounts write_token_file(const std::string& path, DocumentReader& reader);

}  // namespace carillon
