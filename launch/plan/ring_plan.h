// What a ring's ranks see of each other's keys, for one document over the whole sequence: what each tells the others
// before a step (RingSchedule::set), which a counted rank must know of those that do not exist. Pure arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/context/sequence_layout.h"

namespace carillon {

// reads[rank][source][half]: whether a rank sees keys of a half of a source's block, as 0 and 1. `window`: a token sees
// this many, itself included; 0: all before it.
std::vector<int64_t> causal_readers(const SequenceLayout& layout, int64_t window);

// Pairs (q, k) with q in [query, query + queries), k in [key, key + keys), 0 <= q - k, and q - k < window unless it is
// 0.
int64_t visible_pairs(int64_t query, int64_t queries, int64_t key, int64_t keys, int64_t window);

}  // namespace carillon
