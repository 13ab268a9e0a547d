// Which sequences a step trains on, and what the network is told about them. A pure function of how many sequences were
// taken before: the whole state of the data is that one number, kept in the checkpoint, and a resumed run goes on
// after the last one, with as many ranks, as large a micro-batch and as much accumulation as it likes.
//
// The sequences of an epoch are those of the packing, in file order or shuffled again each epoch; epochs follow one
// another without end. Sources with weights are packed and shuffled each by itself and have epochs of their own; which
// of them gives the next sequence mixture.h says. A step that begins at sequence c takes c … c + block − 1, `block` =
// micro_batch · data-parallel ranks · accumulation; data-parallel rank r of D takes r, r + D, … of them, micro_batch of
// them a micro-step.
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
  // `corpus` must outlive it. Error 64 for weights that no whole numbers stand for.
  BatchLoader(const Corpus& corpus, const BatchLoaderOptions& options);
  // Of one source.
  BatchLoader(const TokenStore& store, const BatchLoaderOptions& options);

  int64_t sequences() const;  // of an epoch; of sources with weights, of an epoch of each
  int64_t block() const { return options_.micro_batch * options_.dp_size * options_.accumulation; }
  // How documents became sequences, for the log; a text a source where they have weights.
  std::string describe() const;

  // Micro-step `micro` (from 0) of the step before which `taken` sequences were taken, for this data-parallel rank:
  // [B, sequence_length], in memory of the loader's own that the next call overwrites. After the last document stands
  // padding; a token's target is -1 at its document's end and where its weight is 0.
  MicroBatch get(int64_t taken, int64_t micro);

  // PositionSettings::stretch of what get() gives from here on.
  void set_stretch(int64_t stretch) { options_.positions.stretch = stretch; }

  // Targets of each source in what get() gave since the last call, on this data-parallel rank.
  std::vector<int64_t> take_source_targets();

 private:
  // What is packed and shuffled together: all sources, or of those with weights each.
  struct Stream {
    std::string name;
    uint64_t shuffle = 0;                             // its numbers
    Packing packing;                                  // of the tokens of all sources, one after another
    std::map<int64_t, std::vector<uint32_t>> orders;  // epoch -> shuffled sequences; the last two
  };
  struct Source {
    const TokenStore* store;
    int64_t first_token;  // in the tokens of all
  };
  struct Named {
    const TokenStore* store;
    std::string name;
    double weight;
  };
  BatchLoader(const std::vector<Named>& sources, bool by_weight, const BatchLoaderOptions& options);
  const std::vector<uint32_t>& order_of(Stream& stream, int64_t epoch) const;
  std::span<const Segment> segments_at(int64_t index);  // of an endless row of sequences
  void fill(int64_t row, int64_t index, std::span<const Segment> segments);

  BatchLoaderOptions options_;
  std::vector<Source> sources_;
  std::vector<Stream> streams_;
  std::optional<Mixture> mixture_;
  std::vector<int64_t> source_targets_;
  HostBatch batch_;
};

}  // namespace carillon
