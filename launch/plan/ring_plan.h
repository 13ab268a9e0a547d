// What the ring of one attention layer computes and sends, step by step, for one document over the whole sequence:
// exact counts of visible (query, key) pairs, and the halves that travel (parallel/context/ring_schedule.h). Pure
// arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/context/ring_attention.h"

namespace carillon {

struct RingStep {
  int64_t pairs = 0;           // (query, key) pairs of the rank that has most, one sequence and head
  int64_t key_bytes = 0;       // sent by the rank that sends most while this step is computed: keys and values
  int64_t gradient_bytes = 0;  // the same in the backward pass: dK and dV of the step before
  // Of two levels, between nodes; the above are inside them then.
  int64_t outer_key_bytes = 0, outer_gradient_bytes = 0;
};

struct RingPlan {
  // Steps 0 … W-1; step W, in which the last gradients come home (of two levels: W, and W+1 between nodes), has no
  // pairs.
  std::vector<RingStep> steps;
  int64_t forward_bytes = 0, backward_bytes = 0;  // of all ranks together

  int64_t pairs() const;  // of the slowest rank at every step: what a pass waits for
};

// `window`: a token sees this many, itself included; 0: all before it. One document over the whole sequence.
// reads[rank][source][half]: whether a rank sees keys of a half of a source's block (RingSchedule::set), as 0 and 1.
std::vector<int64_t> causal_readers(const SequenceLayout& layout, int64_t window);

RingPlan plan_ring(const SequenceLayout& layout, const RingAttention::Shape& shape, int64_t window);

// Pairs (q, k) with q in [query, query + queries), k in [key, key + keys), 0 <= q - k, and q - k < window unless it is
// 0.
int64_t visible_pairs(int64_t query, int64_t queries, int64_t key, int64_t keys, int64_t window);

// All pairs of a sequence of `length` tokens, as the formulas count them: S²/2, with a window S·W - W²/2.
double useful_pairs(int64_t length, int64_t window);

}  // namespace carillon
