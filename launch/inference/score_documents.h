// The documents of `carillon score`: rows as in training (data/corpus/document_reader.h), each with an arbitrary `id`.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/corpus/document_reader.h"

namespace carillon {

using Json = nlohmann::ordered_json;

struct ScoreDocument {
  Json id;                      // as given, or else the 0-based number of the line
  std::vector<int32_t> tokens;  // at least one
};

// Reads all documents of the files in order. A file whose name does not tell its format is read as JSON lines; lines
// are numbered across files. options: how rows become tokens. Throws what DocumentReader throws.
std::vector<ScoreDocument> read_score_documents(const std::vector<std::string>& paths, DocumentReaderOptions options);

}  // namespace carillon
