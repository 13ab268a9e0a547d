#include "parallel/tensor/low_rank.h"

#include <algorithm>

#include "parallel/injected_fault.h"

namespace carillon {
namespace {

double scale_of(const LowRankTarget& target) {
  return injected(InjectedFault::kAdapterScaleDoubled) ? 2 * target.scale : target.scale;
}

// Whether one product with A serves all targets: they read the same input and have the same scale.
bool together(const LowRank& adapter, const LowRankWork& work) {
  return work.dropout.probability == 0 &&
         std::all_of(adapter.targets.begin(), adapter.targets.end(),
                     [&](const LowRankTarget& target) { return target.scale == adapter.targets.front().scale; });
}

// [rows, columns] at element `first` of flat memory.
Tensor matrix(Tensor memory, int64_t first, int64_t rows, int64_t columns) {
  return memory.rows(first, first + rows * columns).reshape({rows, columns});
}

// The targets served by one product with A: all, or a single one.
struct Part {
  Range ranks;
  std::vector<const LowRankTarget*> targets;
};
std::vector<Part> parts_of(const LowRank& adapter, const LowRankWork& work) {
  std::vector<Part> parts;
  if (together(adapter, work)) {
    parts.push_back({{0, adapter.a.size(0)}, {}});
    for (const LowRankTarget& target : adapter.targets) parts.front().targets.push_back(&target);
  } else {
    for (const LowRankTarget& target : adapter.targets) parts.push_back({target.ranks, {&target}});
  }
  return parts;
}

// The columns of `target` in a part's u or du.
Tensor columns_of(Tensor low, const Part& part, const LowRankTarget& target) {
  return low.slice(1, target.ranks.begin - part.ranks.begin, target.ranks.end - part.ranks.begin);
}

Dropout dropout_of(const LowRankWork& work, const LowRank& adapter, const Part& part) {
  Dropout dropout = work.dropout;
  dropout.stream = part.targets.front()->stream;
  dropout.first_column = adapter.first_input;
  return dropout;
}

// The part's input: x, or x with some elements dropped.
Tensor input_of(Backend& backend, Tensor x, const LowRank& adapter, const Part& part, const LowRankWork& work,
                int64_t begin) {
  if (work.dropout.probability == 0) return x;
  const Tensor kept = matrix(work.wide, begin * x.size(1), x.size(0), x.size(1));
  backend.dropout(kept, x, work.row.rows(begin, begin + x.size(0)), dropout_of(work, adapter, part));
  return kept;
}

// u of rows [begin, begin + n).
Tensor middle_of(Backend& backend, Tensor x, const LowRank& adapter, const Part& part, const LowRankWork& work,
                 int64_t begin) {
  const Tensor u =
      matrix(work.low, work.rows * part.ranks.begin, work.rows, part.ranks.size()).rows(begin, begin + x.size(0));
  backend.matmul(u, x, adapter.a.rows(part.ranks.begin, part.ranks.end), Transpose::kNo, Transpose::kYes);
  if (const double scale = scale_of(*part.targets.front()); scale != 1) backend.scale(u, scale);
  return u;
}

Tensor middle_gradient(const Part& part, const LowRankWork& work) {
  return matrix(work.low_gradient, work.rows * part.ranks.begin, work.rows, part.ranks.size());
}

}  // namespace

void low_rank_forward(Backend& backend, Tensor y, Tensor x, const LowRank& adapter, const LowRankWork& work,
                      int64_t begin) {
  if (!adapter) return;
  for (const Part& part : parts_of(adapter, work)) {
    const Tensor u = middle_of(backend, input_of(backend, x, adapter, part, work, begin), adapter, part, work, begin);
    for (const LowRankTarget* target : part.targets)
      backend.matmul(y.slice(1, target->outputs.begin, target->outputs.end), columns_of(u, part, *target), target->b,
                     Transpose::kNo, Transpose::kYes, /*accumulate=*/true);
  }
}

void low_rank_input_gradient(Backend& backend, Tensor dx, Tensor dy, const LowRank& adapter, const LowRankWork& work,
                             int64_t begin) {
  if (!adapter) return;
  for (const Part& part : parts_of(adapter, work)) {
    const Tensor du = middle_gradient(part, work).rows(begin, begin + dx.size(0));
    for (const LowRankTarget* target : part.targets)
      backend.matmul(columns_of(du, part, *target), dy.slice(1, target->outputs.begin, target->outputs.end), target->b,
                     Transpose::kNo, Transpose::kNo);
    if (const double scale = scale_of(*part.targets.front()); scale != 1) backend.scale(du, scale);
    const Tensor a = adapter.a.rows(part.ranks.begin, part.ranks.end);
    if (work.dropout.probability == 0) {
      backend.matmul(dx, du, a, Transpose::kNo, Transpose::kNo, /*accumulate=*/true);
      continue;
    }
    const Tensor through = matrix(work.wide, begin * dx.size(1), dx.size(0), dx.size(1));
    backend.matmul(through, du, a, Transpose::kNo, Transpose::kNo);
    backend.dropout(dx, through, work.row.rows(begin, begin + dx.size(0)), dropout_of(work, adapter, part),
                    /*accumulate=*/true);
  }
}

void low_rank_weight_gradient(Backend& backend, Tensor dy, Tensor x, const LowRank& adapter, const LowRankWork& work,
                              bool accumulate) {
  if (!adapter) return;
  for (const Part& part : parts_of(adapter, work)) {
    const Tensor input = input_of(backend, x, adapter, part, work, 0);
    const Tensor u = middle_of(backend, input, adapter, part, work, 0), du = middle_gradient(part, work);
    for (const LowRankTarget* target : part.targets)
      backend.matmul(target->b_gradient, dy.slice(1, target->outputs.begin, target->outputs.end),
                     columns_of(u, part, *target), Transpose::kYes, Transpose::kNo, accumulate);
    backend.matmul(adapter.a_gradient.rows(part.ranks.begin, part.ranks.end), du, input, Transpose::kYes,
                   Transpose::kNo, accumulate);
  }
}

}  // namespace carillon
