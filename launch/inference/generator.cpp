#include "launch/inference/generator.h"

#include <algorithm>
#include <numeric>

#include "launch/inference/scorer.h"

namespace carillon {
namespace {

// Tokens of a group, over all ranks of the ring: enough for efficient products, little memory.
constexpr int64_t kGroupTokens = 32768;
constexpr int64_t kLargestGroup = 64;

}  // namespace

struct Generator::Parts {
  int64_t batch;
  SequenceLayout layout;
  int64_t rotation_length = -1;  // of the table; -1: none yet
  Arena arena;
  std::unique_ptr<KeyValueCache> cache;
  std::unique_ptr<Transformer> prompt, token;
};

Generator::Generator(Backend& backend, ProcessGrid& grid, const ModelConfig& config, DType compute, LayoutKind layout,
                     Parameters& weights)
    : backend_(backend),
      grid_(grid),
      config_(config),
      compute_(compute),
      layout_kind_(layout),
      weights_(weights),
      rope_(config),
      shards_(config, grid.shape.tensor, grid.tp_rank),
      vocabulary_counts_(static_cast<size_t>(grid.shape.tensor)) {
  for (int rank = 0; rank < grid.shape.tensor; ++rank)
    vocabulary_counts_[static_cast<size_t>(rank)] = TensorShards(config, grid.shape.tensor, rank).vocabulary.size();
}

Generator::~Generator() = default;

void Generator::set_rope(const ModelRope& rope) {
  require_same_pairs(rope, config_);
  rope_ = rope;
  if (parts_) parts_->rotation_length = -1;
}

void Generator::prepare(int64_t batch, int64_t length, int64_t rotation_length) {
  if (!parts_ || parts_->batch != batch || parts_->layout.length() != length) {
    parts_.reset();
    parts_.reset(new Parts{batch, {layout_kind_, length, grid_.shape.context, grid_.shape.tensor}, -1, {}, {}, {}, {}});
    const auto allocate = [&](Arena& arena) {
      TransformerOptions options;
      options.compute = compute_;
      options.training = false;
      options.batch = batch;
      options.positions = parts_->layout.padded();
      parts_->cache = std::make_unique<KeyValueCache>(
          backend_, *grid_.cp, parts_->layout,
          KeyValueCache::Shape{config_.num_hidden_layers, batch, shards_.heads, shards_.kv_heads, config_.head_dim,
                               compute_, static_cast<int>(config_.windows().size())},
          arena);
      options.cache = parts_->cache.get();
      const auto make = [&] {
        return std::make_unique<Transformer>(backend_, grid_, config_, shards_, weights_, parts_->layout, options,
                                             arena);
      };
      parts_->prompt = make();
      options.one_token = true;
      parts_->token = make();
    };
    Arena measuring;
    allocate(measuring);
    parts_->arena = Arena(backend_.allocate(measuring.peak()));
    allocate(parts_->arena);
  }
  const int64_t rotation = rope_.follows_length() ? rotation_length : 0;
  if (parts_->rotation_length == rotation) return;
  parts_->prompt->set_rotation(rope_, rotation_length);
  parts_->token->set_rotation(rope_, rotation_length);
  parts_->rotation_length = rotation;
}

// Caches all but the last token of each prompt. Shorter prompts begin later, so that all end at the same index.
void Generator::fill_cache(const Group& group, int64_t longest) {
  const int64_t length = parts_->layout.length(), batch = parts_->batch;
  HostBatch whole(batch, length);
  for (size_t b = 0; b < group.size(); ++b) {
    const std::vector<int32_t>& prompt = *group[b];
    const int64_t pad = longest - static_cast<int64_t>(prompt.size());
    for (int64_t i = 0; i < length; ++i) {
      const auto row = static_cast<size_t>(static_cast<int64_t>(b) * length + i);
      if (i < longest - 1) whole.first[row] = pad;
      if (i < pad || i >= longest - 1) continue;
      whole.tokens[row] = prompt[static_cast<size_t>(i - pad)];
      whole.position[row] = i - pad;
    }
  }
  ShardedBatch sharded(parts_->layout, grid_.cp_rank, batch);
  parts_->prompt->fill_cache(sharded.shard(whole.view()));
}

// Returns the token after the one at `index` of each sequence.
std::vector<int64_t> Generator::next_tokens(const std::vector<int64_t>& tokens, const std::vector<int64_t>& pads,
                                            int64_t index, size_t first_index, uint64_t step,
                                            const SamplingOptions& sampling) {
  const int64_t batch = parts_->batch;
  HostBatch last(batch, 1);
  last.tokens = tokens;
  last.first = pads;
  for (size_t b = 0; b < pads.size(); ++b) last.position[b] = std::max<int64_t>(0, index - pads[b]);
  const Tensor own = parts_->token->next_logits(last.view(), index);

  std::vector<double> mine = download_as_double(backend_, own);
  std::vector<int64_t> counts;
  for (const int64_t columns : vocabulary_counts_) counts.push_back(batch * columns);
  std::vector<double> all(static_cast<size_t>(batch * config_.vocab_size));
  grid_.tp->all_gather(Tensor::of(all, {static_cast<int64_t>(all.size())}), Tensor::of(mine, {own.count()}), counts);

  std::vector<int64_t> chosen(tokens.size());
  std::vector<double> logits;
  for (int64_t b = 0; b < batch; ++b) {
    logits.clear();
    int64_t begin = 0;
    for (const int64_t columns : vocabulary_counts_) {
      const auto row = all.begin() + begin * batch + b * columns;
      logits.insert(logits.end(), row, row + columns);
      begin += columns;
    }
    chosen[static_cast<size_t>(b)] = choose_token(logits, sampling, first_index + static_cast<size_t>(b), step);
  }
  // All ranks use one rank's choice: it must not depend on the last bit of a sum.
  grid_.tp->broadcast(Tensor::of(chosen, {batch}), 0);
  grid_.cp->broadcast(Tensor::of(chosen, {batch}), 0);
  return chosen;
}

std::vector<std::vector<int64_t>> Generator::generate_group(const Group& group, size_t first_index,
                                                            const Request& request) {
  size_t longest = 0;
  for (const auto* prompt : group) longest = std::max(longest, prompt->size());
  const auto end = static_cast<int64_t>(longest);
  const int64_t tp = grid_.shape.tensor;
  const int64_t batch = (static_cast<int64_t>(group.size()) + tp - 1) / tp * tp;
  prepare(batch, padded_score_length(end + request.new_tokens, grid_.shape.context), end + request.new_tokens);
  if (longest > 1) fill_cache(group, end);

  // Rows beyond the group only fill the grid and attend to nothing.
  std::vector<int64_t> tokens(static_cast<size_t>(batch)), pads(tokens.size(), parts_->layout.padded());
  for (size_t b = 0; b < group.size(); ++b) {
    tokens[b] = group[b]->back();
    pads[b] = end - static_cast<int64_t>(group[b]->size());
  }
  std::vector<std::vector<int64_t>> result(group.size());
  std::vector<bool> ended(group.size());
  for (int64_t step = 0; step < request.new_tokens; ++step) {
    tokens = next_tokens(tokens, pads, end - 1 + step, first_index, static_cast<uint64_t>(step), request.sampling);
    for (size_t b = 0; b < group.size(); ++b) {
      if (ended[b]) continue;
      result[b].push_back(tokens[b]);
      ended[b] =
          tokens[b] == kNoToken || std::find(request.stop.begin(), request.stop.end(), tokens[b]) != request.stop.end();
    }
    std::replace(tokens.begin(), tokens.end(), kNoToken, int64_t{0});  // in rows that have ended
    if (std::find(ended.begin(), ended.end(), false) == ended.end()) break;
  }
  return result;
}

// Fails on every rank if a prompt's logits were not finite. `all`: of the prompts from `first` on, in rows of `width`.
void Generator::require_finite(const std::vector<int64_t>& all, size_t width, size_t first) const {
  agree(*grid_.world, [&] {
    for (size_t i = 0; i * width < all.size(); ++i) {
      const auto count = static_cast<size_t>(all[i * width]);
      if (all[i * width + count] == kNoToken)
        fail(ExitCode::kNumeric,
             "the logits of token {} of prompt {} (from 0) are not finite, generating, try runtime.dtype=float64 "
             "or an earlier checkpoint: some values exceed the range of {}",
             count - 1, first + i, name_of(compute_));
    }
  });
}

void Generator::generate(const std::vector<std::vector<int32_t>>& prompts, const Request& request, const Done& done) {
  size_t longest = 1;
  for (const auto& prompt : prompts) {
    CHECK(!prompt.empty(), "a prompt has at least one token");
    longest = std::max(longest, prompt.size());
  }
  const size_t ranks = static_cast<size_t>(grid_.shape.data);
  const int64_t fitting = kGroupTokens / (static_cast<int64_t>(longest) + request.new_tokens);
  const size_t per_group =
      rope_.follows_length() ? 1 : static_cast<size_t>(std::clamp<int64_t>(fitting, 1, kLargestGroup));
  for (size_t round = 0; round < prompts.size(); round += ranks * per_group) {
    const size_t mine = round + per_group * static_cast<size_t>(grid_.dp_rank);
    Group group;
    for (size_t i = mine; i < std::min(mine + per_group, prompts.size()); ++i) group.push_back(&prompts[i]);
    std::vector<int64_t> own;  // a row per prompt: the number of tokens, then the tokens, padded
    const size_t width = static_cast<size_t>(request.new_tokens) + 1;
    if (!group.empty())
      for (const auto& tokens : generate_group(group, mine, request)) {
        own.push_back(static_cast<int64_t>(tokens.size()));
        own.insert(own.end(), tokens.begin(), tokens.end());
        own.resize((own.size() + width - 1) / width * width);
      }
    std::vector<int64_t> counts;
    for (size_t rank = 0; rank < ranks; ++rank) {
      const size_t begin = std::min(round + rank * per_group, prompts.size());
      counts.push_back(static_cast<int64_t>((std::min(begin + per_group, prompts.size()) - begin) * width));
    }
    std::vector<int64_t> all(static_cast<size_t>(std::accumulate(counts.begin(), counts.end(), int64_t{0})));
    grid_.dp->all_gather(Tensor::of(all, {static_cast<int64_t>(all.size())}),
                         Tensor::of(own, {static_cast<int64_t>(own.size())}), counts);
    require_finite(all, width, round);
    if (grid_.world->rank() != 0) continue;
    for (size_t i = 0; i * width < all.size(); ++i) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(i * width);
      done(round + i, {begin + 1, begin + 1 + *begin});
    }
  }
}

}  // namespace carillon
