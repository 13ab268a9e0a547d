// LongCE (Fang et al., 2410.23771, section 4): a token is weighted by how much its long context helps the model itself,
//
//   loss = (1/n) Σ w_i · (−log p(x_i | all before it)),   w_i = min(exp(log p(x_i | all) − log p(x_i | short)), γ),
//
// where n is the number of target tokens (the sum of the data's weights) and w is constant: no gradient goes through
// it. The short context of a document's token i ≥ K is its last K … K + stride − 1 tokens: for s = 0, stride, 2·stride
// … the tokens [s + K, s + K + stride) share the short context that begins at s, as in the published code. A token i <
// K has w = 1.
//
// The long context is a forward pass of the micro-batch as it is. The short contexts become separate documents, packed
// into sequences of the same shape for the same network, so they run on the same ring and take no extra device memory.
// Each sequence's short contexts are packed separately, so they do not depend on the other sequences of the batch.
// Stride and context determine the cost: each stride of tokens takes a forward pass over context + stride tokens.
// Positions keep their distances; those of a short context count from its own beginning.
#pragma once

#include <vector>

#include "model/long_loss_settings.h"
#include "model/network.h"

namespace carillon {

// w of a token with these losses (−log p) for the long and the short context. Not a number if either is not.
double long_loss_weight(double long_loss, double short_loss, double largest);

class LongLoss {
 public:
  // All memory is allocated here, in host memory. `network` and `grid` must outlive this object.
  LongLoss(Network& network, ProcessGrid& grid, const LongLossSettings& settings);

  // Returns `local`, this context rank's part of `whole`, with its `emphasis` set to w. The result is valid until the
  // next call. Collective over cp and tp.
  MicroBatch weigh(const MicroBatch& whole, const MicroBatch& local);

  // Sums over what weigh() returned since the last call, on this rank: Σ target_weight · (−log p) without w, and Σ
  // target_weight · w.
  struct Sums {
    double cross_entropy = 0, weight = 0;
  };
  Sums take_sums();

  // Number of forward passes in the last call, without the long one.
  int64_t short_passes() const { return passes_; }

 private:
  // Rows [begin, end) of a sequence, which see only each other; the losses of rows from `scored` on are used.
  struct Window {
    int64_t begin, end, scored;
  };
  void find_windows(const MicroBatch& whole);
  void run_short_passes(const MicroBatch& whole);
  void run_pass();
  void download_losses();

  Network& network_;
  ProcessGrid& grid_;
  LongLossSettings settings_;
  int64_t batch_, length_;

  std::vector<std::vector<Window>> windows_;  // [B] windows of each sequence, in order
  std::vector<size_t> next_;                  // [B] the first window that has not been run yet
  HostBatch packed_;                          // [B, T] of one pass
  ShardedBatch sharded_;
  std::vector<int64_t> source_;  // [B·T] of one pass: the row of the batch whose short loss this row computes; -1: none
  std::vector<double> short_loss_;    // [B·T] by row of the whole batch; 0 if there is none
  std::vector<char> weighted_batch_;  // [B·T] whether the row has a short loss
  std::vector<double> losses_;        // [N] of the last pass, for this rank's rows
  std::vector<char> staged_;          // the same in the device's type
  std::vector<double> emphasis_;      // [N]
  Sums sums_;
  int64_t passes_ = 0;
};

}  // namespace carillon
