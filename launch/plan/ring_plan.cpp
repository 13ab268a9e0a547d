#include "launch/plan/ring_plan.h"

#include <algorithm>

namespace carillon {
namespace {

// Σ over x = 1 … n of x, 0 for n < 1.
int64_t triangle(int64_t n) { return n < 1 ? 0 : n * (n + 1) / 2; }

// Returns the number of pairs with k <= q - shift.
int64_t pairs_below(int64_t query, int64_t queries, int64_t key, int64_t keys, int64_t shift) {
  // Row q sees clamp(q - shift - key + 1, 0, keys) keys: first none, then one more per row, then all.
  const int64_t first = query - shift - key + 1, last = first + queries - 1;
  const auto up_to = [keys](int64_t x) { return triangle(std::min(x, keys)) + std::max<int64_t>(x - keys, 0) * keys; };
  return up_to(last) - up_to(first - 1);
}

}  // namespace

int64_t visible_pairs(int64_t query, int64_t queries, int64_t key, int64_t keys, int64_t window) {
  const int64_t causal = pairs_below(query, queries, key, keys, 0);
  return window == 0 ? causal : causal - pairs_below(query, queries, key, keys, window);
}

namespace {

// Pairs of the queries of `rank` and half `which` of the keys of `source`.
int64_t pairs_of(const SequenceLayout& layout, int rank, int source, int which, int64_t window) {
  const int64_t half = layout.half();
  int64_t sum = 0;
  for (const int64_t own : {int64_t{0}, half})
    sum += visible_pairs(layout.index_of(rank, own), half, layout.index_of(source, which * half), half, window);
  return sum;
}

}  // namespace

std::vector<int64_t> causal_readers(const SequenceLayout& layout, int64_t window) {
  std::vector<int64_t> reads;
  for (int rank = 0; rank < layout.cp(); ++rank)
    for (int source = 0; source < layout.cp(); ++source)
      for (const int which : {0, 1}) reads.push_back(pairs_of(layout, rank, source, which, window) > 0);
  return reads;
}

}  // namespace carillon
