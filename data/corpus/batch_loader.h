// Decides which sequences a step trains on, and builds the micro-batches for the network. The result is a pure function
// of the number of sequences taken before. That number, kept in the checkpoint, is the whole state of the data. A
// resumed run continues after the last sequence, with any number of ranks, micro-batch size and accumulation.
//
// The sequences of an epoch are those of the packing, in file order or reshuffled in each epoch; epochs follow one
// another without end. Sources with weights are packed and shuffled separately and have separate epochs; mixture.h
// decides which source provides the next sequence. A step that begins at sequence c takes c … c + block − 1 with
// `block` = micro_batch · data-parallel ranks · accumulation. Data-parallel rank r of D takes r, r + D, … of them,
// micro_batch per micro-step.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/corpus/corpus.h"
#include "data/corpus/mixture.h"
#include "data/corpus/packing.h"
#include "data/corpus/positions.h"
#include "data/corpus/token_store.h"
#include "parallel/context/micro_batch.h"

namespace carillon {

struct BatchLoaderOptions {
  int64_t sequence_length = 0;
  int64_t micro_batch = 1;
  int64_t accumulation = 1;
  PackingMode packing = PackingMode::kWhole;
  PositionSettings positions;
  bool shuffle = true;
  uint64_t seed = 0;
  int dp_rank = 0;
  int dp_size = 1;
};

class BatchLoader {
 public:
  // `corpus` must outlive this object. Error 64 for weights that cannot be expressed as whole numbers.
  BatchLoader(const Corpus& corpus, const BatchLoaderOptions& options);
  // For a single source.
  BatchLoader(const TokenStore& store, const BatchLoaderOptions& options);

  int64_t sequences() const;  // per epoch; with weights, the sum over one epoch of each source
  int64_t block() const { return options_.micro_batch * options_.dp_size * options_.accumulation; }
  // Describes for the log how documents were packed into sequences; with weights, one text per source.
  std::string describe() const;

  // Returns this data-parallel rank's micro-step `micro` (from 0) of the step that begins after `taken` sequences: [B,
  // sequence_length], in memory of the loader that the next call overwrites. The end of each sequence is padded. A
  // token's target is -1 at the end of its document and if its weight is 0.
  MicroBatch get(int64_t taken, int64_t micro);

  // Sets PositionSettings::stretch for later calls of get().
  void set_stretch(int64_t stretch) { options_.positions.stretch = stretch; }

  // The number of targets of each source in the batches returned since the last call, on this data-parallel rank.
  std::vector<int64_t> take_source_targets();

 private:
  // What is packed and shuffled together: all sources, or with weights each source separately.
  struct Stream {
    std::string name;
    uint64_t shuffle = 0;                             // stream of random numbers
    Packing packing;                                  // of the concatenated tokens of all sources
    std::map<int64_t, std::vector<uint32_t>> orders;  // epoch -> shuffled sequences, for the last two epochs
  };
  struct Source {
    const TokenStore* store;
    int64_t first_token;  // index into the concatenated tokens of all sources
  };
  struct Named {
    const TokenStore* store;
    std::string name;
    double weight;
  };
  BatchLoader(const std::vector<Named>& sources, bool by_weight, const BatchLoaderOptions& options);
  const std::vector<uint32_t>& order_of(Stream& stream, int64_t epoch) const;
  std::span<const Segment> segments_at(int64_t index);  // `index` counts through all epochs
  void fill(int64_t row, int64_t index, std::span<const Segment> segments);

  BatchLoaderOptions options_;
  std::vector<Source> sources_;
  std::vector<Stream> streams_;
  std::optional<Mixture> mixture_;
  std::vector<int64_t> source_targets_;
  HostBatch batch_;
};

}  // namespace carillon
