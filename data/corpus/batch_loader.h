// Which sequences a step trains on, and what the network is told about them. A pure function of how many sequences were
// taken before: the whole state of the data is that one number, kept in the checkpoint, and whoever resumes goes on
// behind the last one, with as many ranks, as large a micro-batch and as much accumulation as it likes.
//
// The sequences of an epoch are those of the packing, in file order or shuffled anew each epoch; epochs follow one
// another without end. A step that begins at sequence c takes c … c + block − 1, `block` = micro_batch · data-parallel
// ranks · accumulation; data-parallel rank r of D takes r, r + D, … of them, micro_batch of them a micro-step.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "data/corpus/packing.h"
#include "data/corpus/token_store.h"
#include "parallel/context/micro_batch.h"

namespace carillon {

struct BatchLoaderOptions {
  int64_t sequence_length = 0;
  int64_t micro_batch = 1;
  int64_t accumulation = 1;
  PackingMode packing = PackingMode::kWhole;
  bool shuffle = true;
  uint64_t seed = 0;
  int dp_rank = 0;
  int dp_size = 1;
};

class BatchLoader {
 public:
  // `store` must outlive it.
  BatchLoader(const TokenStore& store, const BatchLoaderOptions& options);

  int64_t sequences() const { return packing_.sequences(); }  // of an epoch
  int64_t block() const { return options_.micro_batch * options_.dp_size * options_.accumulation; }
  const Packing& packing() const { return packing_; }

  // Micro-step `micro` (from 0) of the step before which `taken` sequences were taken, for this data-parallel rank:
  // [B, sequence_length], in memory of the loader's own that the next call overwrites. Behind the last document stands
  // padding; a token's target is -1 at its document's end and where its weight is 0.
  MicroBatch get(int64_t taken, int64_t micro);

  // The sequence at `index` of an endless row of epochs.
  int64_t sequence_at(int64_t index);

 private:
  const std::vector<uint32_t>& order_of(int64_t epoch);
  void fill(int64_t row, int64_t sequence);

  const TokenStore& store_;
  BatchLoaderOptions options_;
  Packing packing_;
  std::map<int64_t, std::vector<uint32_t>> orders_;  // epoch -> shuffled sequences; the last two
  HostBatch batch_;
};

}  // namespace carillon
