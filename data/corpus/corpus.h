// The training data: one or several sources, each of them one entry of data.train with its tokens. Either they are one
// row of documents, one after another, or sequences are drawn from each in proportion to its weight (mixture.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/corpus/token_store.h"

namespace carillon {

struct CorpusSource {
  std::string name;  // as records and the log call it
  double weight = 1;
  TokenStore tokens;
};

struct Corpus {
  std::vector<CorpusSource> sources;
  bool by_weight = false;                   // any source has a weight
  bool by_name = false;                     // any has a weight or a name: records then count by source
  std::string template_hash;                // of the chat template; empty where none had a part in the tokens
  std::optional<uint32_t> end_of_document;  // the token after each text

  // Of all sources, in order.
  std::vector<FileContent> files() const {
    std::vector<FileContent> all;
    for (const CorpusSource& source : sources)
      all.insert(all.end(), source.tokens.sources().begin(), source.tokens.sources().end());
    return all;
  }
  // Whether a chat template had a part in the tokens.
  bool has_conversations() const {
    for (const CorpusSource& source : sources)
      if (source.tokens.conversations() > 0) return true;
    return false;
  }
};

}  // namespace carillon
