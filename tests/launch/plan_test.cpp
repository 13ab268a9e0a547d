// The planner: its counts against known models, its memory against that of real networks, its search against what can
// run.
#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "launch/plan/plan_report.h"
#include "launch/plan/ring_plan.h"
#include "launch/session/ranks.h"
#include "parallel/transport/thread_communicator.h"
#include "runtime/scratch.h"
#include "tests/launch/plan_cases.h"
#include "tests/support/tiny_run.h"

namespace carillon::testing {
namespace {

TEST(Plan, CountsTheParametersOfKnownModels) {
  EXPECT_EQ(llama_8b().parameter_count(), 8'030'261'248);
  EXPECT_EQ(product_parameters(llama_8b()), 7'504'658'432);
  EXPECT_EQ(llama_70b().parameter_count(), 70'553'706'496);
  EXPECT_EQ(smollm_135m().parameter_count(), 134'515'008);
  // Embedding and head are tied, so only the 61 norms are not part of a product.
  EXPECT_EQ(product_parameters(smollm_135m()), 134'515'008 - 61 * 576);
}

TEST(Plan, CountsTheUsefulWork) {
  // 6·N_mm + 6·S·a·d·L; the share of attention in it is the published one for 8B.
  const double products = 6 * 7'504'658'432.0;
  const std::pair<int64_t, double> shares[] = {{8 << 10, .125}, {32 << 10, .36}, {128 << 10, .70}, {1 << 20, .948}};
  for (const auto& [length, share] : shares) {
    const double flops = useful_flops_per_token(llama_8b(), length);
    EXPECT_DOUBLE_EQ(flops, products + 6.0 * static_cast<double>(length) * 32 * 128 * 32);
    EXPECT_NEAR(1 - products / flops, share, .006);
  }
  EXPECT_DOUBLE_EQ(useful_pairs(100, 10), 100 * 10 - 50);
}

// Over all ranks of a ring, a counted step sends the bytes that the formulas give and computes the triangle of the
// sequence.
TEST(Plan, CountedRingsSendWhatTheFormulasSay) {
  constexpr int64_t kLength = 240;
  const ModelConfig model = geometry(10, 32, 16, 1, 4, 2, 8);
  for (const LayoutKind kind : {LayoutKind::kZigzag, LayoutKind::kContiguous})
    for (const int ranks : {1, 2, 3, 4, 8})
      for (const int inner : {0, 1, 2, 4}) {
        if (inner > 0 && (ranks % inner != 0 || inner == ranks)) continue;
        PlannedRun run = run_of({1, ranks, 1}, kLength, 1, Recompute::kNone);
        run.grid.ring_inner = inner;
        run.network.layout = kind;
        run.network.batch = 2;
        const RingAttention::Shape shape{2, 4, 2, 8, DType::kBFloat16, true, inner};
        int64_t bytes = 0;
        double flop = 0;
        for (int rank = 0; rank < ranks; ++rank) {
          bytes += count_step(model, run, rank).axes.at("cp").bytes;
          const StepRecord record = record_step(model, run, rank, true);
          for (const StepEvent& event : record.micro_steps[0].events)
            if (event.kind == StepEvent::Kind::kAttention && event.part == StepPart::kForward) flop += event.flop;
        }
        const int64_t readers = int64_t{ranks} * (ranks - 1) * 2 * ranks * 8;  // announcing which halves are read
        EXPECT_EQ(bytes, RingAttention::forward_bytes(run.layout(), shape) +
                             RingAttention::backward_bytes(run.layout(), shape) + readers)
            << ranks << " / " << inner;
        EXPECT_EQ(flop, 2 * 4.0 * 4 * 8 * kLength * (kLength + 1) / 2) << ranks << " / " << inner;
      }
}

TEST(Plan, CountsPairsInsideAWindow) {
  for (const int64_t window : {0, 1, 5, 7, 40})
    for (const int64_t query : {0, 3, 9})
      for (const int64_t key : {0, 4, 11}) {
        int64_t pairs = 0;
        for (int64_t q = query; q < query + 8; ++q)
          for (int64_t k = key; k < key + 6; ++k) pairs += k <= q && (window == 0 || q - k < window);
        EXPECT_EQ(visible_pairs(query, 8, key, 6, window), pairs) << query << " " << key << " " << window;
      }
}

// On every layout, with ranks as threads: the planner's memory of a rank, computed without allocating, equals that of a
// real Network.
TEST(Plan, MemoryIsWhatNetworksTake) {
  ModelConfig model = tiny_config();
  set_depth(model, 4);
  LayerSpec layer = model.layers.front();
  layer.attention.qk_norm = QkNorm::kPerHead;
  model.layers.assign(4, layer);
  MachineProfile machine;
  const MemoryPlan plan(model, machine, 1);
  int checked = 0;
  for (const GridShape grid : {GridShape{1, 1, 1}, {1, 2, 1}, {1, 1, 2}, {2, 1, 1}, {1, 2, 2}, {2, 2, 1}, {1, 1, 4}})
    for (const int zero : {0, 1, 2})
      for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
        PlannedRun run = run_of(grid, 37, zero, recompute, zero == 1 ? DType::kBFloat16 : DType::kFloat32);
        run.network.batch = 3;
        // Four layers, so that two of them travel to the host. The combination of policy and ZeRO stage does not affect
        // that memory.
        if (recompute != Recompute::kNone) {
          run.network.mlp_tile = 16;
          run.network.offload = zero == 0 ? Offload::kCheckpoints : zero == 1 ? Offload::kAll : Offload::kOptimizer;
        }
        std::mutex mutex;
        run_ranks(grid.size(), [&](std::unique_ptr<Communicator> world) {
          const int rank = world->rank();
          ParallelSection parallel;
          parallel.data = grid.data, parallel.context = grid.context, parallel.tensor = grid.tensor;
          const auto backend = make_backend({.device = "reference", .threads = 1});
          ProcessGrid real =
              make_grid(*backend, std::move(world), {std::vector<int64_t>(static_cast<size_t>(grid.size())), rank},
                        parallel, model, [](const std::string&) {});
          const Network network(*backend, real, model, run.network);
          const std::lock_guard lock(mutex);
          const RankMemory planned = plan.rank(run, rank);
          EXPECT_EQ(planned.allocated, static_cast<int64_t>(network.bytes())) << describe(run) << " rank " << rank;
          EXPECT_EQ(planned.host, static_cast<int64_t>(network.host_bytes())) << describe(run) << " rank " << rank;
          EXPECT_EQ(planned.host > 0, recompute != Recompute::kNone);
          ++checked;
        });
      }
  EXPECT_EQ(checked, 9 * (1 + 2 + 2 + 2 + 4 + 4 + 4));
}

TEST(Plan, GroupsHoldEveryRankOnceAndRolesAddUp) {
  MachineProfile machine;
  machine.library_bytes = 1000;
  const ModelConfig model = tiny_config();  // 131 tokens, so that the ranks have different shares
  const MemoryPlan plan(model, machine, 2, /*evaluation_length=*/64);
  for (const GridShape grid : {GridShape{1, 1, 1}, {2, 1, 2}, {1, 4, 2}, {3, 1, 1}}) {
    const PlannedRun run = run_of(grid, 64, 1, Recompute::kSelective);
    std::set<int> ranks;
    for (const RankGroup& group : plan.groups(run))
      for (const int rank : group.ranks) {
        EXPECT_TRUE(ranks.insert(rank).second);
        const RankMemory memory = plan.rank(run, rank);
        EXPECT_EQ(memory.roles, group.memory.roles) << group.name;
        int64_t sum = 0;
        for (const auto& [role, bytes] : memory.roles) sum += bytes;
        EXPECT_EQ(sum, memory.total);
        EXPECT_EQ(memory.host, 0) << "a CPU's is all counted as its own";
        EXPECT_LE(memory.total, plan.peak(run)) << "rank 0 is the fullest";
        EXPECT_EQ(memory.of("libraries"), 1000);
        EXPECT_GT(memory.of("evaluation"), 0);
      }
    EXPECT_EQ(static_cast<int>(ranks.size()), grid.size());
  }
}

// checkpoint.async: weights are copied by the first of the ranks that share them, moments and masters by their owner;
// over all ranks each tensor of a checkpoint is copied once.
TEST(Plan, ACopyOfACheckpointIsCounted) {
  MachineProfile machine;
  const ModelConfig model = tiny_config();
  const MemoryPlan plan(model, machine, 2);
  for (const int zero : {0, 1})
    for (const GridShape grid : {GridShape{1, 1, 1}, {2, 1, 1}, {3, 2, 1}}) {
      PlannedRun run = run_of(grid, 64, zero, Recompute::kSelective);
      const int64_t without = plan.peak(run);
      run.background_saves = true;
      int64_t all = 0;
      for (const RankGroup& group : plan.groups(run))
        for (const int rank : group.ranks) {
          EXPECT_EQ(plan.rank(run, rank).roles, group.memory.roles) << group.name;
          all += plan.rank(run, rank).of("checkpoint copy");
        }
      PlannedRun alone = run_of({1, 1, 1}, 64, 0, Recompute::kSelective);
      const RankMemory whole = plan.rank(alone, 0);
      EXPECT_EQ(all, whole.of("weights") + whole.of("optimizer")) << grid.data << " " << grid.context << " " << zero;
      EXPECT_EQ(plan.peak(run), without + plan.rank(run, 0).of("checkpoint copy"));
    }
}

TEST(Plan, StatesAreWhatTheFormulasSay) {
  const PlannedMachine machine = h100(1);
  const ModelConfig model = llama_8b();
  const MemoryPlan memory(model, machine.profile, 1);
  const double n = 8'030'261'248.0;
  const RankMemory zero1 = memory.rank(run_of({1, 8, 1}, 128 << 10, 1, Recompute::kFull), 0);
  EXPECT_NEAR(static_cast<double>(zero1.of("weights")), 2 * n, 1e6);
  EXPECT_NEAR(static_cast<double>(zero1.of("gradients")), 4 * n, 1e6);
  EXPECT_NEAR(static_cast<double>(zero1.of("optimizer")), 12 * n / 8, 1e6);
  // One residual per layer and token.
  EXPECT_NEAR(static_cast<double>(zero1.of("activations")), (32 + 1) * 16384 * 2 * 4096.0, 1e6);
  const RankMemory selective = memory.rank(run_of({1, 8, 1}, 128 << 10, 1, Recompute::kSelective), 0);
  EXPECT_NEAR(static_cast<double>(selective.of("activations")), 32 * 16384 * 16512.0 + 16384 * 2 * 4096, 1e6);
}

TEST(Plan, LongestSequenceIsTheLongest) {
  const PlannedMachine machine = h100(1);
  const ModelConfig model = llama_8b();
  const MemoryPlan memory(model, machine.profile, 1);
  for (const GridShape grid : {GridShape{1, 8, 1}, {1, 4, 2}, {1, 2, 4}, {2, 2, 2}})
    for (const int64_t bytes : {int64_t{60} << 30, machine.usable_bytes()}) {
      PlannedRun run = run_of(grid, 4096, 2, Recompute::kSelective);
      run.network.sequence_length = memory.longest_sequence(run, bytes);
      const int64_t granule = 2 * grid.context * grid.tensor;
      ASSERT_GT(run.network.sequence_length, 4096);
      EXPECT_EQ(run.network.sequence_length % granule, 0);
      EXPECT_LE(memory.peak(run), bytes);
      run.network.sequence_length += granule;
      EXPECT_GT(memory.peak(run), bytes) << describe(run);
    }
  EXPECT_EQ(memory.longest_sequence(run_of({1, 1, 1}, 4096, 1, Recompute::kFull), int64_t{1} << 30), 0);
}

TEST(Plan, SearchDropsWhatCannotRun) {
  ModelConfig model = smollm_135m();  // 9 heads: three tensor ranks divide them, two do not
  PlannedMachine machine = h100(1, 1e-6);
  machine.ranks_per_node = 6;
  const PlannedRun run = run_of({6, 1, 1}, 8192, 1, Recompute::kSelective);
  const MemoryPlan memory(model, machine.profile, 1);
  const LayoutSearch search = search_layouts(model, run, run.sequences(), machine, memory, 100);
  // Grids with 1 or 3 tensor ranks: 4 + 2. All of them except context 6 … keep six sequences per step.
  EXPECT_EQ(search.too_large, 0);
  EXPECT_GT(search.impossible, 0);
  double last = 1e300;
  for (const PlannedLayout& layout : search.best) {
    EXPECT_NE(layout.run.grid.tensor % 2, 0);
    EXPECT_EQ(layout.run.grid.size(), 6);
    EXPECT_EQ(layout.run.sequences(), 6) << "the same step on every layout";
    EXPECT_LE(layout.time.tokens_per_second, last);
    last = layout.time.tokens_per_second;
  }
  EXPECT_EQ(static_cast<int>(search.best.size()) + search.impossible, search.tried);

  // With less memory than the fastest layout needs, it and similar ones are dropped, and all that remain fit.
  machine.profile.memory_bytes = search.best.front().peak;
  const LayoutSearch smaller = search_layouts(model, run, run.sequences(), machine, memory);
  EXPECT_GT(smaller.too_large, 0);
  EXPECT_LE(smaller.best.size(), 5u);
  for (const PlannedLayout& layout : smaller.best) EXPECT_LE(layout.peak, machine.usable_bytes());
}

TEST(Plan, PlannedRanksExchangeNothing) {
  const ProcessGrid grid = planned_grid({2, 3, 4}, 17, 2);
  EXPECT_EQ(grid.tp_rank, 1);
  EXPECT_EQ(grid.cp_rank, 1);
  EXPECT_EQ(grid.dp_rank, 1);
  EXPECT_EQ(grid.dp_cp->rank(), 4);
  EXPECT_EQ(grid.dp_cp->size(), 6);
  EXPECT_EQ(grid.kv_replicas->size(), 2);
  EXPECT_THROW(grid.world->barrier(), InternalError);
  EXPECT_THROW((void)grid.cp->sum(1.0), InternalError);
}

TEST(Plan, ScratchOfAHandComputedCall) {
  // One sequence of 64 rows, one head of 64, float32: no rounding anywhere.
  ScratchShape shape;
  shape.compute = DType::kFloat32;
  shape.queries = shape.keys = 64;
  shape.heads = shape.kv_heads = 1;
  shape.head_dim = 64;
  const size_t forward = 64 * 128 + 96 * (64 + 64 + 2 + 256);
  const size_t backward = 7 * 64 * 64 + 2 * 64 + 2 * 64 * 64 + 3 * 96 * 192 + 2 * 96 * 64;
  EXPECT_EQ(backend_scratch_bytes(shape), (forward + backward) * 4 + 64 * 16);
  // Beyond the rows that a backward pass takes at once, each further query costs only the memory of keys, forward pass
  // and mask.
  shape.queries = shape.keys = 6400;
  const size_t before = backend_scratch_bytes(shape);
  shape.queries = shape.keys = 12800;
  EXPECT_EQ(backend_scratch_bytes(shape) - before, 6400u * (5 * 64 * 4 + 16));
  shape.queries = shape.keys = 64;
  shape.device = "cuda";
  EXPECT_EQ(backend_scratch_bytes(shape), (32u << 20) + 4);
  shape.widest_bias = 1 << 18;  // 64 blocks of rows, summed in float32
  EXPECT_EQ(backend_scratch_bytes(shape), (64u << 20) + 4);
}

}  // namespace
}  // namespace carillon::testing
