#include "model/long_loss.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "parallel/injected_fault.h"

namespace carillon {

// Bounds the exponent, not the power, so a difference of 1000 nats does not overflow.
double long_loss_weight(double long_loss, double short_loss, double largest) {
  return std::exp(std::min(short_loss - long_loss, std::log(largest)));
}

LongLoss::LongLoss(Network& network, ProcessGrid& grid, const LongLossSettings& settings)
    : network_(network),
      grid_(grid),
      settings_(settings),
      batch_(network.options().batch),
      length_(network.layout().length()),
      windows_(static_cast<size_t>(batch_)),
      next_(static_cast<size_t>(batch_)),
      packed_(batch_, length_),
      sharded_(network.layout(), grid.cp_rank, batch_),
      source_(static_cast<size_t>(batch_ * length_)),
      short_loss_(source_.size()),
      weighted_batch_(source_.size()),
      losses_(static_cast<size_t>(batch_ * network.layout().local())),
      staged_(losses_.size() * size_of(accumulate_type(network.options().compute))),
      emphasis_(losses_.size()) {
  CHECK(settings.context >= 1 && settings.stride >= 1, "a short context has tokens", settings.context, settings.stride);
  for (auto& windows : windows_) windows.reserve(static_cast<size_t>(length_ / settings.stride + 1));
}

MicroBatch LongLoss::weigh(const MicroBatch& whole, const MicroBatch& local) {
  CHECK(whole.tokens.size(0) == batch_ && whole.tokens.size(1) == length_, "another batch than the network's",
        whole.tokens.size(0), whole.tokens.size(1));
  find_windows(whole);
  run_short_passes(whole);
  network_.transformer().forward(local);
  download_losses();

  const auto target_weight = local.target_weight.span<double>();
  const int64_t rows = network_.layout().local();
  for (int64_t row = 0; row < batch_ * rows; ++row) {
    const auto here = static_cast<size_t>(row);
    const int64_t index = network_.layout().index_of(grid_.cp_rank, row % rows);
    const auto at = static_cast<size_t>(row / rows * length_ + index);
    // A weight that is not a number makes the loss not a number, so the step is skipped like any non-finite one.
    emphasis_[here] = index < length_ && weighted_batch_[at]
                          ? long_loss_weight(losses_[here], short_loss_[at], settings_.largest_weight)
                          : 1;
    if (target_weight[here] == 0) continue;
    sums_.cross_entropy += target_weight[here] * losses_[here];
    sums_.weight += target_weight[here] * emphasis_[here];
  }
  MicroBatch weighed = local;
  weighed.emphasis = Tensor::of(emphasis_, {batch_, rows});
  return weighed;
}

LongLoss::Sums LongLoss::take_sums() { return std::exchange(sums_, {}); }

// The rows from `begin` on whose `first` is `begin` are a document. Row r's target is token r + 1, so token s + K is
// the target of row s + K − 1, and the last token of a window is only ever a target.
void LongLoss::find_windows(const MicroBatch& whole) {
  std::fill(short_loss_.begin(), short_loss_.end(), 0);
  std::fill(weighted_batch_.begin(), weighted_batch_.end(), 0);
  const auto first = whole.first.span<int64_t>(), target = whole.target.span<int64_t>();
  for (int64_t b = 0; b < batch_; ++b) {
    std::vector<Window>& windows = windows_[static_cast<size_t>(b)];
    windows.clear();
    next_[static_cast<size_t>(b)] = 0;
    const auto at = [&](int64_t row) { return static_cast<size_t>(b * length_ + row); };
    for (int64_t begin = 0, end = 0; begin < length_ && first[at(begin)] == begin; begin = end) {
      while (end < length_ && first[at(end)] == begin) ++end;
      for (int64_t start = begin; start + settings_.context < end; start += settings_.stride) {
        const Window window{start, std::min(start + settings_.context + settings_.stride, end) - 1,
                            start + settings_.context - 1};
        bool any = false;
        for (int64_t row = window.scored; row < window.end; ++row)
          if (target[at(row)] >= 0) weighted_batch_[at(row)] = 1, any = true;
        if (any) windows.push_back(window);
      }
    }
  }
}

void LongLoss::run_short_passes(const MicroBatch& whole) {
  const auto tokens = whole.tokens.span<int64_t>(), position = whole.position.span<int64_t>();
  const auto target = whole.target.span<int64_t>(), number = whole.sequence.span<int64_t>();
  std::copy(number.begin(), number.end(), packed_.sequence.begin());
  for (passes_ = 0;; ++passes_) {
    bool any = false;
    std::fill(source_.begin(), source_.end(), -1);
    for (int64_t b = 0; b < batch_; ++b) {
      const std::vector<Window>& windows = windows_[static_cast<size_t>(b)];
      size_t& next = next_[static_cast<size_t>(b)];
      int64_t to = 0;
      for (; next < windows.size() && to + windows[next].end - windows[next].begin <= length_; ++next) {
        const Window& window = windows[next];
        const int64_t begin = to;
        any = true;
        const int64_t before = position[static_cast<size_t>(b * length_ + window.begin)];
        const int64_t reach = position[static_cast<size_t>(b * length_ + window.end)] - before + 1;
        for (int64_t row = window.begin; row < window.end; ++row, ++to) {
          const auto from = static_cast<size_t>(b * length_ + row), here = static_cast<size_t>(b * length_ + to);
          const bool looked_at = row >= window.scored && target[from] >= 0;
          packed_.tokens[here] = tokens[from];
          packed_.position[here] = position[from] - before;
          packed_.first[here] = begin;
          packed_.reach[here] = reach;
          packed_.target[here] = looked_at ? target[from] : -1;
          packed_.target_weight[here] = looked_at ? 1 : 0;
          source_[here] = looked_at ? static_cast<int64_t>(from) : -1;
        }
      }
      for (; to < length_; ++to) packed_.pad(static_cast<size_t>(b * length_ + to));
    }
    if (!any) break;
    run_pass();
  }
  // Each loss was computed on the context rank that held its packed row, but is needed by the rank that holds its row
  // of the batch.
  if (passes_ > 0 && !injected(InjectedFault::kShortLossesNotShared))
    grid_.cp->all_reduce(Tensor::of(short_loss_, {batch_ * length_}), Reduction::kSum);
}

void LongLoss::run_pass() {
  network_.transformer().forward(sharded_.shard(packed_.view()));
  download_losses();
  const int64_t rows = network_.layout().local();
  for (int64_t row = 0; row < batch_ * rows; ++row) {
    const int64_t index = network_.layout().index_of(grid_.cp_rank, row % rows);
    if (index >= length_) continue;
    const int64_t source = source_[static_cast<size_t>(row / rows * length_ + index)];
    if (source >= 0) short_loss_[static_cast<size_t>(source)] = losses_[static_cast<size_t>(row)];
  }
}

void LongLoss::download_losses() {
  const Tensor losses = network_.transformer().losses();
  network_.backend().download(Tensor(staged_.data(), losses.dtype(), losses.shape()), losses);
  dispatch_floating(losses.dtype(), [&](auto zero) {
    const auto* values = reinterpret_cast<const decltype(zero)*>(staged_.data());
    for (size_t row = 0; row < losses_.size(); ++row) losses_[row] = static_cast<double>(values[row]);
  });
}

}  // namespace carillon
