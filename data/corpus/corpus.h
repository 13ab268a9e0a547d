// The training data: one or more sources, each of them one entry of data.train with its tokens. The sources are either
// concatenated, or sequences are drawn from each in proportion to its weight (mixture.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/corpus/token_store.h"

namespace carillon {

struct CorpusSource {
  std::string name;  // its name in records and in the log
  double weight = 1;
  TokenStore tokens;
};

struct Corpus {
  std::vector<CorpusSource> sources;
  bool by_weight = false;                   // some source has a weight
  bool by_name = false;                     // some source has a weight or a name: records then count per source
  std::string template_hash;                // of the chat template; empty if the tokens were made without one
  std::optional<uint32_t> end_of_document;  // the token appended to each text

  // Of all sources, in order.
  std::vector<FileContent> files() const {
    std::vector<FileContent> all;
    for (const CorpusSource& source : sources)
      all.insert(all.end(), source.tokens.sources().begin(), source.tokens.sources().end());
    return all;
  }
  // Whether any tokens were made with a chat template.
  bool has_conversations() const {
    for (const CorpusSource& source : sources)
      if (source.tokens.conversations() > 0) return true;
    return false;
  }
};

}  // namespace carillon
