// The documents of `carillon score`: rows as in training (data/corpus/document_reader.h), each with any `id`.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/corpus/document_reader.h"

namespace carillon {

using Json = nlohmann::ordered_json;

struct ScoreDocument {
  Json id;                      // as given, else the 0-based number of the line
  std::vector<int32_t> tokens;  // at least one
};

// All documents of the files in order; one of a name that says nothing is read as JSON lines, and the lines of several
// files are numbered on. options: what makes rows into tokens. Errors as DocumentReader's.
std::vector<ScoreDocument> read_score_documents(const std::vector<std::string>& paths, DocumentReaderOptions options);

}  // namespace carillon
