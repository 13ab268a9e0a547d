// The tasks of a sweep: documents in, metrics out. Each runs on every layout the Scorer runs on.
#pragma once

#include "data/tokenizer.h"
#include "launch/scorer.h"
#include "launch/sweep_config.h"

namespace carillon {

// Metrics as interface.md, section 5. Collective over `world`; what can fail on bad input is agreed upon, so an Error
// comes on every rank alike. On ranks other than 0 the metrics are empty. `tokenizer` may be null.
Json run_task(Communicator& world, Scorer& scorer, const SweepPoint& point, const SweepConfig& config,
              const Tokenizer* tokenizer, int64_t vocabulary);

// Scored tokens of one window: [begin, end) of the document, those from `scored` on count.
struct Window {
  int64_t begin;
  int64_t end;
  int64_t scored;
};
// Windows of a document of `tokens` tokens: full: its first `length` tokens; blocks: one behind another; sliding: from
// 0, stride, 2·stride …, each scoring what was not scored before. The first token of a window is never scored.
std::vector<Window> windows_of(int64_t tokens, const std::string& kind, int64_t length, int64_t stride);

}  // namespace carillon
