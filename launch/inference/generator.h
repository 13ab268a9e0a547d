// Continues prompts token by token, on any grid: the prompt passes through the ring once, then single tokens use a
// cache that is sharded like the sequence (parallel/context/key_value_cache.h).
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "launch/inference/token_choice.h"
#include "model/transformer.h"

namespace carillon {

class Generator {
 public:
  // Uses existing weights; the cache is allocated when prompts come. Not collective. All arguments must outlive this
  // object.
  Generator(Backend& backend, ProcessGrid& grid, const ModelConfig& config, DType compute, LayoutKind layout,
            Parameters& weights);
  ~Generator();

  // Sets another rotation for the same weights. Types that depend on the sequence length use the total of prompt and
  // new tokens: the rotation of cached keys must not change while the cache grows. Throws error 64 if the number of
  // rotated pairs differs.
  void set_rope(const ModelRope& rope);

  struct Request {
    int64_t new_tokens = 0;     // at most
    std::vector<int64_t> stop;  // ids that end a continuation; included in it
    SamplingOptions sampling;
  };
  // Continues prompts (of at least one token each), distributed over the data-parallel ranks in groups that share a
  // pass. On the world's rank 0, `done(index, tokens)` is called for each in order with the new tokens. Collective over
  // the world. Error 76 if logits are not finite.
  using Done = std::function<void(size_t index, const std::vector<int64_t>& tokens)>;
  void generate(const std::vector<std::vector<int32_t>>& prompts, const Request& request, const Done& done);

 private:
  struct Parts;  // the cache and the two transformers for groups of one size
  using Group = std::vector<const std::vector<int32_t>*>;
  std::vector<std::vector<int64_t>> generate_group(const Group& group, size_t first_index, const Request& request);
  void require_finite(const std::vector<int64_t>& all, size_t width, size_t first) const;
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
