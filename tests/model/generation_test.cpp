// The cache against a whole forward pass: the same tokens, one at a time after a cached prompt, must have the
// log-probabilities of an ordinary forward pass, on every layout, in float64.
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "parallel/injected_fault.h"
#include "parallel/transport/thread_communicator.h"
#include "tests/support/device_memory.h"
#include "tests/support/tiny_run.h"

namespace carillon::testing {
namespace {

constexpr uint64_t kSeed = 7;

struct CachedCase {
  ModelConfig config;
  GridShape grid;
  LayoutKind layout = LayoutKind::kZigzag;
  std::vector<TinySequence> sequences;  // of any lengths
  int64_t prompt = 0;                   // leading tokens of the longest sequence, which go through the ring
  std::string device = "reference";
  int64_t tensor_chunks = 0;
};

// -log p of every token after the prompt of each sequence, generated one at a time. All sequences end at the same
// index.
std::vector<std::vector<double>> losses_through_cache(const CachedCase& test) {
  std::vector<std::vector<double>> losses(test.sequences.size());
  std::mutex mutex;
  run_ranks(test.grid.size(), [&](std::unique_ptr<Communicator> world) {
    const auto backend = make_test_backend({.device = test.device, .threads = 1});
    ProcessGrid grid =
        make_process_grid(std::move(world), test.grid,
                          std::max<int>(1, test.grid.tensor / static_cast<int>(test.config.num_key_value_heads)));
    for_device(*backend, grid);
    int64_t longest = 0;
    for (const TinySequence& sequence : test.sequences)
      longest = std::max(longest, static_cast<int64_t>(sequence.tokens.size()));
    const int64_t given = static_cast<int64_t>(test.sequences.size()), tp = test.grid.tensor;
    const int64_t batch = (given + tp - 1) / tp * tp;
    const SequenceLayout layout(test.layout, longest, test.grid.context, test.grid.tensor);
    const TensorShards shards(test.config, test.grid.tensor, grid.tp_rank);
    std::unique_ptr<Parameters> parameters;
    std::unique_ptr<KeyValueCache> cache;
    std::unique_ptr<Transformer> prompt, token;
    const auto allocate = [&](Arena& arena) {
      parameters =
          std::make_unique<Parameters>(test.config, shards, ParameterOptions{DType::kFloat64, false, false}, arena);
      cache =
          std::make_unique<KeyValueCache>(*backend, *grid.cp, layout,
                                          KeyValueCache::Shape{test.config.num_hidden_layers, batch, shards.heads,
                                                               shards.kv_heads, test.config.head_dim, DType::kFloat64},
                                          arena);
      TransformerOptions options;
      options.compute = DType::kFloat64;
      options.training = false;
      options.batch = batch;
      options.positions = longest;
      options.cache = cache.get();
      options.tensor_chunks = test.tensor_chunks;
      prompt = std::make_unique<Transformer>(*backend, grid, test.config, shards, *parameters, layout, options, arena);
      options.one_token = true;
      token = std::make_unique<Transformer>(*backend, grid, test.config, shards, *parameters, layout, options, arena);
    };
    Arena measuring;
    allocate(measuring);
    Arena arena(backend->allocate(measuring.peak()));
    allocate(arena);
    parameters->initialize(*backend, *grid.tp, test.config.initializer_range, kSeed);
    prompt->set_rotation(test.config, longest);
    token->set_rotation(test.config, longest);

    HostBatch whole(batch, longest);
    std::vector<int64_t> pads(static_cast<size_t>(batch), layout.padded());
    for (size_t b = 0; b < test.sequences.size(); ++b) {
      const auto& sequence = test.sequences[b].tokens;
      pads[b] = longest - static_cast<int64_t>(sequence.size());
      for (int64_t i = 0; i < test.prompt; ++i) {
        const size_t row = b * static_cast<size_t>(longest) + static_cast<size_t>(i);
        whole.first[row] = pads[b];
        if (i < pads[b]) continue;
        whole.tokens[row] = sequence[static_cast<size_t>(i - pads[b])];
        whole.position[row] = i - pads[b];
      }
    }
    ShardedBatch sharded(layout, grid.cp_rank, batch);
    prompt->fill_cache(sharded.shard(whole.view()));
    for (int64_t index = test.prompt; index + 1 < longest; ++index) {
      HostBatch last(batch, 1);
      last.first = pads;
      for (size_t b = 0; b < test.sequences.size(); ++b) {
        if (index < pads[b]) continue;
        last.position[b] = index - pads[b];
        last.tokens[b] = test.sequences[b].tokens[static_cast<size_t>(last.position[b])];
      }
      const Tensor own = token->next_logits(last.view(), index);
      // log-sum-exp and the target's logit, summed over tp.
      const std::vector<double> logits = download_as_double(*backend, own);
      for (size_t b = 0; b < test.sequences.size(); ++b) {
        double sum = 0, at_target = 0;
        const int64_t next = test.sequences[b].tokens[static_cast<size_t>(std::max<int64_t>(0, index + 1 - pads[b]))];
        for (int64_t v = 0; v < own.size(1); ++v) {
          const double logit = logits[b * static_cast<size_t>(own.size(1)) + static_cast<size_t>(v)];
          sum += std::exp(logit);
          if (shards.vocabulary.begin + v == next) at_target = logit;
        }
        const double loss = std::log(grid.tp->sum(sum)) - grid.tp->sum(at_target);
        if (grid.world->rank() != 0 || index < pads[b]) continue;
        const std::lock_guard lock(mutex);
        losses[b].push_back(loss);
      }
    }
  });
  return losses;
}

double worst_against_whole_pass(const CachedCase& test) {
  const auto cached = losses_through_cache(test);
  double worst = 0;
  for (size_t s = 0; s < test.sequences.size(); ++s) {
    TinyRun run;
    run.config = test.config;
    run.zero = 0;
    run.seed = kSeed;
    run.sequences = {test.sequences[s]};
    const std::vector<double> whole = run_tiny(run).token_loss[0];
    EXPECT_GT(cached[s].size(), 0u);
    for (size_t i = 0; i < cached[s].size(); ++i)
      worst = std::max(worst, std::abs(cached[s][cached[s].size() - 1 - i] - whole[whole.size() - 2 - i]));
  }
  return worst;
}

std::vector<ModelConfig> configs() {
  const auto of = [](const char* text) { return parse_model_config(text, "test"); };
  return {tiny_config(), of(R"({"model_type": "mistral", "vocab_size": 127, "hidden_size": 32, "intermediate_size": 40,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "sliding_window": 7,
    "initializer_range": 0.3, "tie_word_embeddings": false, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0})"),
          of(R"({"model_type": "qwen3", "vocab_size": 126, "hidden_size": 24, "intermediate_size": 40,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10, "initializer_range": 0.3,
    "attention_bias": false, "tie_word_embeddings": true, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0})")};
}

CachedCase case_of(const ModelConfig& config) {
  CachedCase test{config, {}, LayoutKind::kZigzag, tiny_sequences(2, 37, 120), 20};
  test.sequences.push_back(tiny_sequences(1, 24, 120, {}, 5)[0]);
  return test;
}

TEST(Generation, CachedTokensHaveTheLossesOfAWholePass) {
  for (const ModelConfig& config : configs())
    for (const GridShape grid : {GridShape{1, 1, 1}, GridShape{1, 2, 1}, GridShape{1, 3, 1}, GridShape{1, 4, 1},
                                 GridShape{1, 1, 2}, GridShape{1, 1, 4}, GridShape{1, 2, 2}})
      for (const LayoutKind layout : {LayoutKind::kZigzag, LayoutKind::kContiguous}) {
        CachedCase test = case_of(config);
        test.grid = grid;
        test.layout = layout;
        SCOPED_TRACE(fmt::format("{} heads {} cp {} tp {}", config.num_key_value_heads, config.head_dim, grid.context,
                                 grid.tensor));
        EXPECT_LT(worst_against_whole_pass(test), 1e-11);
      }
}

TEST(Generation, APromptOfOneTokenNeedsNoRing) {
  CachedCase test = case_of(tiny_config());
  test.grid = {1, 2, 1};
  test.prompt = 0;
  test.sequences.resize(2);
  EXPECT_LT(worst_against_whole_pass(test), 1e-11);
}

TEST(Generation, ExchangesInChunksAgree) {
  CachedCase test = case_of(tiny_config());
  test.grid = {1, 2, 2};
  test.tensor_chunks = 3;
  EXPECT_LT(worst_against_whole_pass(test), 1e-11);
}

TEST(Generation, TheCpuBackendAgrees) {
  CachedCase test = case_of(tiny_config());
  test.grid = {1, 2, 2};
  test.device = "cpu";
  EXPECT_LT(worst_against_whole_pass(test), 1e-10);
}

TEST(Generation, OnADeviceWhoseMemoryTheHostCannotRead) {
  CachedCase test = case_of(tiny_config());
  test.grid = {1, 2, 2};
  test.device = "isolated";
  EXPECT_LT(worst_against_whole_pass(test), 1e-11);
}

TEST(Generation, AForgottenRankIsSeen) {
  CachedCase test = case_of(tiny_config());
  test.grid = {1, 2, 1};
  const ScopedFault injected(InjectedFault::kCacheRankForgotten);
  EXPECT_GT(worst_against_whole_pass(test), 1e-3);
}

}  // namespace
}  // namespace carillon::testing
