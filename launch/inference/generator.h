// Continues prompts token by token, on any grid: the prompt passes the ring once, then a cache sharded like the
// sequence serves one token at a time (parallel/context/key_value_cache.h).
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "launch/inference/token_choice.h"
#include "model/transformer.h"

namespace carillon {

class Generator {
 public:
  // Uses somebody else's weights; memory for the cache is taken when prompts come. Collective in nothing; everything
  // given must outlive it.
  Generator(Backend& backend, ProcessGrid& grid, const ModelConfig& config, DType compute, LayoutKind layout,
            Parameters& weights);
  ~Generator();

  // Another rotation for the same weights. Types that follow the length go by that of the whole, prompt and new tokens:
  // the keys in the cache must not turn while it grows. Error 64 when it turns another number of pairs.
  void set_rope(const ModelRope& rope);

  struct Request {
    int64_t new_tokens = 0;     // at most
    std::vector<int64_t> stop;  // ids after which a continuation ends; they belong to it
    SamplingOptions sampling;
  };
  // Prompts (at least one token each) go to the data-parallel ranks in groups that share a pass. On the world's rank 0
  // `done(index, tokens)` is called for each in order with the new tokens. Collective over the world.
  using Done = std::function<void(size_t index, const std::vector<int64_t>& tokens)>;
  void generate(const std::vector<std::vector<int32_t>>& prompts, const Request& request, const Done& done);

 private:
  struct Parts;  // the cache and the two transformers for groups of one size
  using Group = std::vector<const std::vector<int32_t>*>;
  std::vector<std::vector<int64_t>> generate_group(const Group& group, size_t first_index, const Request& request);
  void prepare(int64_t batch, int64_t length, int64_t rotation_length);
  void fill_cache(const Group& group, int64_t longest);
  std::vector<int64_t> next_tokens(const std::vector<int64_t>& tokens, const std::vector<int64_t>& pads, int64_t index,
                                   size_t first_index, uint64_t step, const SamplingOptions& sampling);

  Backend& backend_;
  ProcessGrid& grid_;
  const ModelConfig& config_;
  DType compute_;
  LayoutKind layout_kind_;
  Parameters& weights_;
  ModelRope rope_;
  TensorShards shards_;
  std::vector<int64_t> vocabulary_counts_;  // columns of the logits on each tp rank
  std::unique_ptr<Parts> parts_;
};

}  // namespace carillon
