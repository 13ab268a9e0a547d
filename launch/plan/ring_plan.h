// Which of each other's keys the ranks of a ring see, for one document that fills the sequence. Ranks exchange this
// before a step (RingSchedule::set); a counted rank needs it from ranks that do not exist, so it is computed.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/context/sequence_layout.h"

namespace carillon {

// reads[rank][source][half]: whether a rank sees keys in a half of a source's block, as 0 or 1. `window`: the number of
// tokens a token sees, including itself; 0: all before it.
std::vector<int64_t> causal_readers(const SequenceLayout& layout, int64_t window);

// Returns the number of pairs (q, k) with q in [query, query + queries), k in [key, key + keys), 0 <= q - k and,
// unless window is 0, q - k < window.
int64_t visible_pairs(int64_t query, int64_t queries, int64_t key, int64_t keys, int64_t window);

}  // namespace carillon
