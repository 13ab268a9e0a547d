#include "launch/inference/score_documents.h"

namespace carillon {

std::vector<ScoreDocument> read_score_documents(const std::vector<std::string>& paths, DocumentReaderOptions options) {
  options.keep_ids = true;
  options.may_be_empty = true;
  options.unknown = DataContent::kJsonLines;
  DocumentReader reader(paths, options);
  std::vector<ScoreDocument> documents;
  Document document;
  int64_t before = 0, line = 0;  // lines of the previous files, and of this one so far
  size_t file = 0;
  while (reader.next(document)) {
    if (document.file != file) before += line, line = 0, file = document.file;
    line = document.line;
    ScoreDocument& scored = documents.emplace_back();
    scored.id = document.id.empty() ? Json(before + line - 1) : Json::parse(document.id);
    scored.tokens.assign(document.tokens.begin(), document.tokens.end());
  }
  return documents;
}

}  // namespace carillon
