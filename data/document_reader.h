// Documents of a list of files, in order, one at a time: files larger than memory are never held.
//   .jsonl  a JSON object a line: `tokens` (integers), optional `loss_mask` (a weight a token), or `text`
//   .txt    one document
//   .h5     a token file (data/token_file.h)
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace carillon {

struct Document {
  std::vector<uint32_t> tokens;
  std::vector<double> weights;  // of each token as a target; empty: all 1
};

struct DocumentReaderOptions {
  const Tokenizer* tokenizer = nullptr;     // may be absent: text is then error 64 naming data.tokenizer
  std::optional<uint32_t> end_of_document;  // put behind every text
  int64_t vocabulary = 0;                   // ids are below it
};

class TokenFile;

class DocumentReader {
 public:
  DocumentReader(std::vector<std::string> paths, const DocumentReaderOptions& options);
  ~DocumentReader();

  // The next document; false at the end of the last file. Errors name file and line: 65 for what is not JSON, holds
  // neither tokens nor text, is empty, has an id outside the vocabulary, a mask of another length or a weight that is
  // negative or not finite, or text that is not UTF-8; 66 for a file that is not there.
  bool next(Document& document);
  // Bytes read and to read, for progress.
  int64_t position() const;
  int64_t size() const { return size_; }
  // What has been read came from here: "train.jsonl:17".
  std::string where() const;

 private:
  bool open_next();
  void parse_line(const std::string& line, Document& document);
  void encode(const std::string& text, Document& document) const;
  void check(const Document& document) const;

  std::vector<std::string> paths_;
  DocumentReaderOptions options_;
  size_t next_path_ = 0;
  std::ifstream file_;
  std::unique_ptr<TokenFile> token_file_;
  int64_t line_ = 0;  // in the present file, from 1; of a token file the document
  int64_t size_ = 0;
  int64_t before_ = 0;  // bytes of the files before the present one
  std::string line_text_;
};

}  // namespace carillon
