// LongCE (Fang et al., 2410.23771, section 4): a token counts by how much its long context helps the model itself,
//
//   loss = (1/n) Σ w_i · (−log p(x_i | all before it)),   w_i = min(exp(log p(x_i | all) − log p(x_i | short)), γ),
//
// n the number of target tokens (the sum of the data's weights), w constant: no gradient goes through it. The short
// context of a document's token i ≥ K is its last K … K + stride − 1 tokens; tokens [s + K, s + K + stride) for s = 0,
// stride, 2·stride … share the one that begins at s, as in the published code. A token i < K has w = 1.
//
// The long context is a forward pass of the micro-batch as it stands. The short ones are documents of their own, packed
// into sequences of the same shape that the same network takes, so they run under the same ring and take no memory of
// the device; a sequence's short contexts are packed by themselves, so that they are the same beside any others. About
// stride and context decide the cost: each stride of tokens is a forward pass over context + stride of them. Positions
// keep their distances; those of a document count from its own beginning.
#pragma once

#include <vector>

#include "model/long_loss_settings.h"
#include "model/network.h"

namespace carillon {

// w of a token whose losses (−log p) with the long and the short context are these. Not a number where either is not.
double long_loss_weight(double long_loss, double short_loss, double largest);

class LongLoss {
 public:
  // All memory is the host's and taken here. `network` and `grid` must outlive it.
  LongLoss(Network& network, ProcessGrid& grid, const LongLossSettings& settings);

  // `local` is `whole` as this context rank has it, which it may come back with other memory: its `emphasis` is w, good
  // until the next call. Collective over cp and tp.
  MicroBatch weigh(const MicroBatch& whole, const MicroBatch& local);

  // Of what weigh() gave since the last call, on this rank: Σ target_weight · (−log p) without w, and Σ
  // target_weight · w.
  struct Sums {
    double cross_entropy = 0, weight = 0;
  };
  Sums take_sums();

  // How many forward passes the last call took, the long one not counted.
  int64_t short_passes() const { return passes_; }

 private:
  // Rows [begin, end) of a sequence see each other only; from `scored` on, their losses are looked at.
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

  std::vector<std::vector<Window>> windows_;  // [B] of each sequence, in order
  std::vector<size_t> next_;                  // [B] the first that was not run yet
  HostBatch packed_;                          // [B, T] of a pass
  ShardedBatch sharded_;
  std::vector<int64_t> source_;     // [B·T] of a pass: whose short loss a row's loss is; -1 nobody's
  std::vector<double> short_loss_;  // [B·T] by row of the whole batch; 0 where there is none
  std::vector<char> weighed_;       // [B·T] whether there is one
  std::vector<double> losses_;      // [N] of the last pass, this rank's rows
  std::vector<char> staged_;        // the same as the device has them
  std::vector<double> emphasis_;    // [N]
  Sums sums_;
  int64_t passes_ = 0;
};

}  // namespace carillon
