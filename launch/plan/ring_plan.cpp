#include "launch/plan/ring_plan.h"

#include <algorithm>

namespace carillon {
namespace {

// Σ over x = 1 … n of x, 0 for n < 1.
int64_t triangle(int64_t n) { return n < 1 ? 0 : n * (n + 1) / 2; }

// Pairs with k <= q - shift.
int64_t pairs_below(int64_t query, int64_t queries, int64_t key, int64_t keys, int64_t shift) {
  // Row q sees clamp(q - shift - key + 1, 0, keys) keys: first none, then one more each row, then all.
  const int64_t first = query - shift - key + 1, last = first + queries - 1;
  const auto up_to = [keys](int64_t x) { return triangle(std::min(x, keys)) + std::max<int64_t>(x - keys, 0) * keys; };
  return up_to(last) - up_to(first - 1);
}

}  // namespace

int64_t visible_pairs(int64_t query, int64_t queries, int64_t key, int64_t keys, int64_t window) {
  const int64_t causal = pairs_below(query, queries, key, keys, 0);
  return window == 0 ? causal : causal - pairs_below(query, queries, key, keys, window);
}

double useful_pairs(int64_t length, int64_t window) {
  const double s = static_cast<double>(length), w = static_cast<double>(window);
  return window == 0 || window >= length ? s * s / 2 : s * w - w * w / 2;
}

int64_t RingPlan::pairs() const {
  int64_t sum = 0;
  for (const RingStep& step : steps) sum += step.pairs;
  return sum;
}

namespace {

// Of the queries of `rank` and half `which` of the keys of `source`.
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

RingPlan plan_ring(const SequenceLayout& layout, const RingAttention::Shape& shape, int64_t window) {
  const int ranks = layout.cp();
  const int64_t half = layout.half();
  const auto pairs = [&](int rank, int source, int which) { return pairs_of(layout, rank, source, which, window); };
  RingPlan plan;
  RingSchedule schedule(ranks, shape.ring_inner);
  plan.steps.resize(static_cast<size_t>(ranks) + (ranks == 1 ? 0 : schedule.stages() == 1 ? 1 : 2));
  for (int rank = 0; rank < ranks; ++rank)
    for (int source = 0; source < ranks; ++source) {
      const int64_t early = pairs(rank, source, 0), late = pairs(rank, source, 1);
      int at = 0;
      while (schedule.source(rank, at) != source) ++at;
      RingStep& step = plan.steps[static_cast<size_t>(at)];
      step.pairs = std::max(step.pairs, early + late);
    }
  if (ranks == 1) return plan;

  schedule.set(causal_readers(layout, window));
  const int64_t elements = 2 * shape.batch * half * shape.kv_heads * shape.head_dim;
  const int64_t key_half = elements * static_cast<int64_t>(size_of(shape.compute));
  const int64_t gradient_half = elements * static_cast<int64_t>(size_of(accumulate_type(shape.compute)));
  const int inner = schedule.inner();
  const auto largest = [](int64_t& bytes, int64_t sent) { bytes = std::max(bytes, sent); };
  for (int step = 0; step < static_cast<int>(plan.steps.size()); ++step)
    for (int rank = 0; rank < ranks; ++rank) {
      RingStep& at = plan.steps[static_cast<size_t>(step)];
      if (step + 1 < ranks) {
        largest(at.key_bytes, schedule.carried(rank, step).count() * key_half);
        largest(at.outer_key_bytes, schedule.outer_carried(rank, step / inner).count() * key_half / inner);
      }
      if (step < 2) continue;
      const int before = step - 1;
      if (before < ranks) {
        int sent = schedule.gradient_carried(rank, before).count();
        if (before % inner != 0) sent += schedule.gradient_finished(rank, before).count();
        largest(at.gradient_bytes, sent * gradient_half);
      }
      // A stage's go to other nodes in the steps after its last part is collected; the last stage's in one.
      const int stage = before / inner - 1, pieces = stage + 1 < schedule.stages() ? inner : 1;
      if (stage < 1 || stage >= schedule.stages()) continue;
      const int outer =
          schedule.outer_gradient_carried(rank, stage).count() + schedule.outer_gradient_finished(rank, stage).count();
      largest(at.outer_gradient_bytes, outer * gradient_half / pieces);
    }
  plan.forward_bytes = schedule.key_halves().all() * key_half;
  plan.backward_bytes = plan.forward_bytes + schedule.gradient_halves().all() * gradient_half;
  return plan;
}

}  // namespace carillon
