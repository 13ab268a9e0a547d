// The planner's times and totals against hand computations, published thresholds and the published worked examples.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <map>

#include "launch/plan/plan_report.h"
#include "launch/session/ranks.h"
#include "tests/launch/plan_cases.h"

namespace carillon::testing {
namespace {

TEST(Plan, TimesOfAHandComputedStep) {
  // 2 layers, 8 channels, 2 heads of 4, MLP 16, vocabulary of 10 tokens, no biases; everything runs at 1 FLOP/s.
  const ModelConfig model = geometry(10, 8, 16, 2, 2, 2, 4);
  PlannedMachine machine = unit_machine(1);
  PlannedRun run = run_of({1, 1, 1}, 16, 1, Recompute::kNone, DType::kFloat32);
  const double layer = 8 * (4 * 8 + 3 * 16);  // parameters in products

  StepTime time = plan_step(model, run, machine);
  EXPECT_DOUBLE_EQ(time.linear_forward, 2 * 16 * 2 * layer);
  EXPECT_DOUBLE_EQ(time.linear_backward, 2 * time.linear_forward);
  EXPECT_DOUBLE_EQ(time.linear_recomputed, 0);
  EXPECT_DOUBLE_EQ(time.loss, 6 * 15 * 8 * 10) << "nothing follows the last token";
  const double pairs = 16 * 17 / 2;
  EXPECT_DOUBLE_EQ(time.attention_forward, 2 * pairs * 4 * 2 * 4);
  EXPECT_DOUBLE_EQ(time.attention_backward, 2.5 * time.attention_forward);
  EXPECT_DOUBLE_EQ(time.ring + time.tensor + time.gradients + time.attention_recomputed, 0);
  double sum = 0;
  for (const auto& [name, seconds] : time.terms()) sum += seconds;
  EXPECT_DOUBLE_EQ(time.seconds, sum);
  EXPECT_DOUBLE_EQ(time.tokens_per_second, 16 / time.seconds);
  EXPECT_EQ(time.limiting, "products backward");
  EXPECT_DOUBLE_EQ(time.useful_flops, 16 * (6 * (2 * layer + 80) + 6 * 16 * 8 * 2));
  EXPECT_DOUBLE_EQ(time.hardware_flops,
                   time.linear_forward + time.linear_backward + time.loss + time.attention_forward * 3.5);

  run.network.recompute = Recompute::kFull;
  time = plan_step(model, run, machine);
  EXPECT_DOUBLE_EQ(time.linear_recomputed, 2 * 16 * 2 * (layer - 8 * 16)) << "all but the MLP's second product";
  EXPECT_DOUBLE_EQ(time.attention_recomputed, time.attention_forward);

  // Two context ranks: 8 tokens each, two steps, one hop of 2·8·2·4 numbers; nothing hides the last hop of the
  // gradients.
  run.grid.context = 2;
  run.network.recompute = Recompute::kSelective;
  machine.profile.within_node.bytes_per_second = 2;
  time = plan_step(model, run, machine);
  const double step0 = 36 * 4 * 4 * 2, step1 = 32 * 4 * 4 * 2, hop = 2 * 8 * 2 * 4 * 4 / 2.0;
  EXPECT_DOUBLE_EQ(time.forward_ring.compute, step0 + step1);
  EXPECT_DOUBLE_EQ(time.forward_ring.hops, hop);
  EXPECT_DOUBLE_EQ(time.forward_ring.exposed, 0) << "1152 s of attention before 256 s of hop are over";
  EXPECT_DOUBLE_EQ(time.backward_ring.hops, 2 * hop);
  EXPECT_DOUBLE_EQ(time.backward_ring.exposed, hop);
  EXPECT_DOUBLE_EQ(time.ring, 2 * hop);
  EXPECT_DOUBLE_EQ(time.backward_ring.uncovered, 0);
  machine.profile.device = "cpu";
  EXPECT_DOUBLE_EQ(plan_step(model, run, machine).ring, 2 * 3 * hop) << "a CPU moves hops itself";

  // Four layers, two of which travel, at 100 FLOP per byte: 16 rows of 8 numbers, as many of attention, 2 sums per row.
  {
    ModelConfig deeper = model;
    deeper.num_hidden_layers = 4;
    deeper.layers.assign(4, deeper.layers.front());
    PlannedRun offloaded = run_of({1, 1, 1}, 16, 1, Recompute::kSelective, DType::kFloat32);
    offloaded.network.offload = Offload::kCheckpoints;
    PlannedMachine other = machine;
    other.profile.device = "cuda";
    const double bytes = 16 * (8 + 8 + 2) * 4, forward_layer = 16 * 2 * layer + pairs * 4 * 2 * 4,
                 backward_layer = 2 * 16 * 2 * layer + 16 * 2 * (layer - 8 * 16) + 2.5 * pairs * 4 * 2 * 4;
    other.profile.host = {bytes / forward_layer, 0};
    time = plan_step(deeper, offloaded, other);
    EXPECT_DOUBLE_EQ(time.host_copies.checkpoint_bytes, 2 * bytes);
    EXPECT_DOUBLE_EQ(time.host_copies.checkpoints, 2 * forward_layer);
    EXPECT_DOUBLE_EQ(time.host_copies.beside, 4 * (forward_layer + backward_layer));
    EXPECT_DOUBLE_EQ(time.offload, 0) << "hidden";
    // At half the speed, the first copy must end before the second layer's output takes its place: after one more layer
    // and its products from attention's output to gate and up. The second copy waits for the first and has one more
    // layer.
    other.profile.host.bytes_per_second /= 2;
    ASSERT_LT(2 * forward_layer, backward_layer) << "on the way back they are hidden still";
    time = plan_step(deeper, offloaded, other);
    EXPECT_DOUBLE_EQ(time.offload, 2 * forward_layer - 16 * 2 * (8 * 8 + 8 * 32));
    EXPECT_DOUBLE_EQ(time.host_copies.checkpoints_exposed, time.offload);
    // Moments only, because a float32 weight is its own master. They move in and out chunk by chunk, partly in both
    // directions at once.
    offloaded.network.offload = Offload::kOptimizer;
    time = plan_step(deeper, offloaded, other);
    const double one_way = static_cast<double>(deeper.parameter_count()) * 8;
    EXPECT_DOUBLE_EQ(time.host_copies.state_bytes, one_way);
    EXPECT_GT(time.offload, one_way / other.profile.host.bytes_per_second);
    EXPECT_LT(time.offload, 2 * one_way / other.profile.host.bytes_per_second);
    EXPECT_DOUBLE_EQ(time.host_copies.checkpoints_exposed, 0);
    // MLP tiles do the same work.
    offloaded.network.offload = Offload::kNone;
    const StepTime whole = plan_step(deeper, offloaded, other);
    offloaded.network.mlp_tile = 4;
    const StepTime tiled = plan_step(deeper, offloaded, other);
    EXPECT_DOUBLE_EQ(tiled.linear_forward, whole.linear_forward);
    EXPECT_DOUBLE_EQ(tiled.linear_backward, whole.linear_backward);
    EXPECT_DOUBLE_EQ(tiled.linear_recomputed, whole.linear_recomputed);
    time = plan_step(model, run, machine);
  }

  // Reduction over the two ranks: half of the gradients out, half of the weights back. A layer's reduction runs behind
  // the next layer's backward pass; nothing hides those of the first layer and the embedding.
  machine.profile.device = "cuda";
  time = plan_step(model, run, machine);
  const double parameters = static_cast<double>(model.parameter_count());
  EXPECT_DOUBLE_EQ(time.reduction, parameters * 4 / 2 / 2);
  EXPECT_DOUBLE_EQ(time.reduction_exposed, layer + 16 + 80);
  EXPECT_DOUBLE_EQ(time.gradients, layer + 16 + 80 + parameters * 4 / 2 / 2);
  {
    PlannedMachine other = machine;
    other.profile.device = "cpu";
    EXPECT_DOUBLE_EQ(plan_step(model, run, other).gradients, 2 * parameters * 4 / 2 / 2) << "a CPU hides nothing";
    // So slow that a layer's reduction outlasts all products before the next layer's ring and the first step of that
    // ring: the rest delays the first hop. This concerns the reductions of the head and of one layer.
    const double before = 8 * 2 * (layer - 8 * 16) + 2 * 8 * 2 * (layer - 8 * 24) + 2.5 * step0;
    other = machine;
    other.profile.within_node.bytes_per_second = (layer + 16) * 4 / 2 / (2 * before);
    time = plan_step(model, run, other);
    const double of_layer = 2 * before, of_head = of_layer * 88 / 656, of_embedding = of_layer * 80 / 656;
    ASSERT_LT(of_head, before);
    EXPECT_NEAR(time.reduction_exposed, before + of_layer + of_embedding, 1e-9 * of_layer);
    PlannedRun whole = run;
    whole.network.recompute = Recompute::kFull;
    whole.grid = {1, 2, 2};
    const StepTime tensor = plan_step(model, whole, machine);
    EXPECT_DOUBLE_EQ(tensor.reduction_exposed, tensor.reduction) << "the next gather waits for it";
  }
  // Data ranks: a reduction starts after the whole backward pass of its layer. The head's takes 1.5 times as long as a
  // layer's backward pass, a layer's 0.5 times. The rest of the head's continues behind the next layer, except with
  // ZeRO 2, which waits for it.
  for (const int zero : {1, 2}) {
    const ModelConfig wide = geometry(246, 8, 16, 3, 2, 2, 4);  // a head as large as three layers
    PlannedRun data = run_of({2, 1, 1}, 16, zero, Recompute::kSelective, DType::kFloat32);
    PlannedMachine other = machine;
    other.profile.device = "cuda";
    const double room = 16 * 2 * (layer - 8 * 16) + 2 * 16 * 2 * layer + 2.5 * pairs * 4 * 2 * 4;
    other.profile.within_node.bytes_per_second = (layer + 16) * 4 / room;
    time = plan_step(wide, data, other);
    const double head = .5 * room * (1968 + 8) / 656, embedding = .5 * room * 1968 / 656;
    EXPECT_NEAR(time.reduction, head + 3 * .5 * room + embedding, 1e-9 * room);
    EXPECT_NEAR(time.reduction_exposed, (zero == 1 ? 0 : head - room) + .5 * room + embedding, 1e-9 * room);
    EXPECT_NEAR(time.gradients - time.reduction_exposed, time.reduction, 1e-9 * room) << "weights, in float32 too";
    for (const int64_t micro_steps : {3, 5}) {
      data.accumulation = micro_steps;
      EXPECT_NEAR(plan_step(wide, data, other).reduction_exposed / time.reduction_exposed,
                  zero == 2 ? static_cast<double>(micro_steps) : 1, 1e-12);
    }
  }
  time = plan_step(model, run, machine);

  // Tensor ranks: 10 + 2 exchanges of half the residual per layer, 4 outside the layers, the statistics of the loss,
  // and the sums of five norms' gradients. A CPU hides none of them.
  machine.profile.device = "cpu";
  run.grid = {1, 1, 2};
  time = plan_step(model, run, machine);
  const double exchange = 16 * 8 * 4 / 2 / 2.0, statistics = 2 * 3 * 15 * 4 / 2 / 2.0, norms = 2 * 5 * 8 * 4 / 2 / 2.0;
  EXPECT_DOUBLE_EQ(time.tensor, (2 * 12 + 4) * exchange + statistics + norms);
  EXPECT_DOUBLE_EQ(time.gradients, 0);
}

// A gather or scatter moves half the residual in 128 s; the shortest product, attention's output, takes 1024 s.
TEST(Plan, ExchangesOverTensorRanksTravelBesideProducts) {
  const ModelConfig model = geometry(10, 8, 16, 2, 2, 2, 4);
  PlannedMachine machine = unit_machine(2);
  const PlannedRun run = run_of({1, 1, 2}, 16, 1, Recompute::kSelective, DType::kFloat32);
  const double exchange = 16 * 8 * 4 / 2 / 2.0, statistics = 2 * 3 * 15 * 4 / 2 / 2.0, norms = 2 * 5 * 8 * 4 / 2 / 2.0;
  StepTime time = plan_step(model, run, machine);
  EXPECT_EQ(time.tensor_exchanges.chunks, 1) << "8 rows a rank";
  EXPECT_DOUBLE_EQ(time.tensor_exchanges.exchanges, (2 * 12 + 4) * exchange + statistics + norms);
  EXPECT_DOUBLE_EQ(time.tensor_exchanges.exposed, (2 * 9 + 4) * exchange + statistics + norms)
      << "of four backward: what the gradients by weights are computed beside";
  EXPECT_DOUBLE_EQ(time.tensor, time.tensor_exchanges.exposed);

  // In four chunks, a quarter of each exchange within a layer is exposed. The four products of a quarter of the rows
  // take as long as the whole.
  const StepTime whole = time;
  setenv("CARILLON_TENSOR_CHUNKS", "4", 1);
  const StepRecord record = record_step(model, run, 0, /*beside_compute=*/true);
  unsetenv("CARILLON_TENSOR_CHUNKS");
  const auto in_four = [&] { return plan_step(model, run, machine, record); };
  time = in_four();
  EXPECT_EQ(time.tensor_exchanges.chunks, 4);
  EXPECT_DOUBLE_EQ(time.tensor_exchanges.exchanges, whole.tensor_exchanges.exchanges);
  EXPECT_DOUBLE_EQ(time.tensor, 2 * 9 * exchange / 4 + 4 * exchange + statistics + norms);
  EXPECT_DOUBLE_EQ(time.linear_forward, whole.linear_forward);
  EXPECT_DOUBLE_EQ(time.linear_backward, whole.linear_backward);
  EXPECT_DOUBLE_EQ(time.linear_recomputed, whole.linear_recomputed);
  // Latency applies per chunk: one more second per chunk adds one second to each exposed exchange. For the embedding
  // and its gradient all four chunks are exposed; the loss's exchanges are not cut, and the norms are summed in three
  // calls.
  machine.profile.within_node.latency_seconds = 1;
  EXPECT_DOUBLE_EQ(in_four().tensor,
                   2 * 9 * (exchange / 4 + 1) + 2 * (exchange + 4) + 2 * (exchange + 1) + statistics + 2 + norms + 3);

  // A link sixty times slower: an exchange is hidden only as far as there are products to run meanwhile, and exchanges
  // take turns. Computed by hand, for the products of one layer: qkv, attention's output, gate and up, down.
  machine.profile.within_node = {2.0 / 60, 0};
  const double slow = 60 * exchange, qkv = 2 * 16 * 8 * 12, out = 2 * 16 * 4 * 8, gate_up = 2 * 16 * 8 * 16,
               down = 2 * 16 * 8 * 8;
  const auto beside = [&](double product) { return slow / 4 + 3 * std::max(0.0, slow - product) / 4; };
  const double attention = 2.5 * 16 * 17 / 2 * 4 * 4;
  const double forward = beside(qkv) + beside(out) + beside(gate_up);
  // Backward, the MLP's x is available. The scatter of dx begins after a quarter of its product and overlaps with the
  // weight gradient.
  const double mlp = beside(down) + std::max(0.0, gate_up / 4 + slow - 2 * gate_up);
  // The gather of attention's x follows that of dy, up to two exchanges after the start, and the scatter of dx follows
  // it, up to three. The product with the gathered gradient ends a quarter of its time after the first gather.
  const double rest = beside(out) + std::max(0.0, 2 * slow - out / 4 - out - attention - 2 * qkv);
  EXPECT_NEAR(in_four().tensor, 2 * (2 * forward + beside(down) + mlp + rest) + 4 * slow + 60 * (statistics + norms),
              1e-6 * slow);

  // The 8B model at 128K tokens on two tensor ranks: all but an eighth of each exchange of 32768 rows is hidden, except
  // those of embedding and loss.
  const PlannedRun eight = run_of({1, 4, 2}, 128 << 10, 1, Recompute::kSelective);
  time = plan_step(llama_8b(), eight, h100(1));
  EXPECT_EQ(time.tensor_exchanges.chunks, 8);
  EXPECT_NEAR(time.tensor_exchanges.exposed / time.tensor_exchanges.exchanges, (32 * 9 / 8.0 + 4) / (32 * 12 + 4),
              .002);
}

// The record of a micro-step, part by part, against values computed by hand.
TEST(Plan, TheRecordHoldsProductsByShape) {
  const ModelConfig model = geometry(10, 8, 16, 2, 2, 2, 4);
  PlannedRun run = run_of({1, 1, 1}, 16, 1, Recompute::kSelective, DType::kFloat32);
  run.accumulation = 5;
  const StepRecord record = record_step(model, run, 0, true);
  ASSERT_EQ(record.micro_steps.size(), 3u) << "the others are like the second";
  EXPECT_EQ(record.accumulation, 5);
  std::map<StepPart, std::vector<std::array<int64_t, 3>>> products;
  for (const StepEvent& event : record.micro_steps[1].events)
    if (event.kind == StepEvent::Kind::kProduct)
      products[event.part].push_back({event.rows, event.inner, event.columns});
  using Shapes = std::vector<std::array<int64_t, 3>>;
  const Shapes layer{{16, 8, 24}, {16, 8, 8}, {16, 8, 32}, {16, 16, 8}};
  Shapes forward = layer, again(layer.begin(), layer.end() - 1);
  forward.insert(forward.end(), layer.begin(), layer.end());
  again.insert(again.end(), layer.begin(), layer.end() - 1);
  EXPECT_EQ(products[StepPart::kForward], forward);
  EXPECT_EQ(products[StepPart::kRecompute], again) << "all but the MLP's second";
  EXPECT_EQ(products[StepPart::kLoss], (Shapes{{15, 8, 10}, {15, 10, 8}, {10, 15, 8}}));
  const Shapes backward{{16, 8, 16}, {8, 16, 16}, {16, 32, 8}, {32, 16, 8},
                        {16, 8, 8},  {8, 16, 8},  {16, 24, 8}, {24, 16, 8}};
  ASSERT_EQ(products[StepPart::kBackward].size(), 2 * backward.size());
  EXPECT_EQ(Shapes(products[StepPart::kBackward].begin(), products[StepPart::kBackward].begin() + 8), backward);
  EXPECT_GT(record.micro_steps[2].update_calls, record.micro_steps[1].update_calls) << "the update is the last one's";
  EXPECT_EQ(record.micro_steps[1].update_calls, 0);
}

TEST(Plan, RingIsHiddenFromThePublishedLengthsOn) {
  const PlannedRun flat = run_of({1, 8, 1}, 128 << 10, 1, Recompute::kSelective);
  const StepTime node = plan_step(llama_8b(), flat, h100(1));
  EXPECT_NEAR(static_cast<double>(node.forward_ring.tokens_to_hide), 893, 1);
  EXPECT_NEAR(static_cast<double>(node.backward_ring.tokens_to_hide), 857, 1);
  const PlannedRun wide = run_of({1, 16, 1}, 128 << 10, 1, Recompute::kSelective);
  const StepTime nodes = plan_step(llama_8b(), wide, h100(2));
  EXPECT_NEAR(static_cast<double>(nodes.forward_ring.tokens_to_hide), 7143, 1);
  EXPECT_NEAR(static_cast<double>(nodes.backward_ring.tokens_to_hide), 6857, 1);
  EXPECT_DOUBLE_EQ(nodes.forward_ring.uncovered, 0) << "8192 tokens a rank are enough";
  // Two-level: eight steps hide one hop between nodes. Not used within one node, or if tensor ranks fill the node.
  EXPECT_NEAR(static_cast<double>(nodes.forward_ring.tokens_to_hide_two_level), 893, 1);
  EXPECT_NEAR(static_cast<double>(nodes.backward_ring.tokens_to_hide_two_level), 857, 1);
  EXPECT_EQ(node.forward_ring.tokens_to_hide_two_level, 0);
  // As implemented, an inner hop and an eighth of a hop between nodes take turns: 893 and 893 tokens.
  PlannedRun two = wide;
  two.grid = with_ring(two.grid, {}, 8);
  EXPECT_EQ(two.grid.ring_inner, 8) << "16 context ranks on two nodes";
  const StepTime levels = plan_step(llama_8b(), two, h100(2));
  EXPECT_NEAR(static_cast<double>(levels.forward_ring.tokens_to_hide), 2 * 893, 2);
  EXPECT_NEAR(static_cast<double>(levels.backward_ring.tokens_to_hide), 2 * 857, 2);
  EXPECT_EQ(levels.forward_ring.tokens_to_hide_two_level, 0);
  two.network.sequence_length = 16 * 1900;
  EXPECT_DOUBLE_EQ(plan_step(llama_8b(), two, h100(2)).forward_ring.uncovered, 0);
  EXPECT_EQ(with_ring({2, 8, 1}, {}, 8).ring_inner, 0) << "each ring on a node";
  EXPECT_EQ(with_ring({1, 2, 8}, {}, 8).ring_inner, 0) << "one context rank a node";
  const StepTime filled = plan_step(llama_70b(), run_of({1, 16, 8}, 1 << 20, 1, Recompute::kSelective), h100(16));
  EXPECT_EQ(filled.forward_ring.tokens_to_hide_two_level, 0);
  EXPECT_NEAR(static_cast<double>(filled.forward_ring.tokens_to_hide), 3571, 1);
  PlannedRun shorter = wide;
  shorter.network.sequence_length = 16 * 7000;
  EXPECT_GT(plan_step(llama_8b(), shorter, h100(2)).forward_ring.uncovered, 0);
  shorter.network.sequence_length = 16 * 7200;
  EXPECT_DOUBLE_EQ(plan_step(llama_8b(), shorter, h100(2)).forward_ring.uncovered, 0);
}

// The table of worked examples, row by row, each scheme as this program implements it. GB are 1e9 bytes.
//
// Seconds: the table omits elementwise ops, tensor collectives, gradients and optimizer. It also recomputes the MLP's
// second product, which this program does not, because its result is not needed. Only the common terms are compared.
//
// Memory: first the table against its own formulas; then the counted allocations of this program against the formulas,
// corrected for these differences (T tensor ranks, n tokens per rank, t rows of an MLP tile, R pairs of a head, S the
// sequence):
//  - gradients, ZeRO 2: embedding, head and last norm have separate memory, which the formula omits;
//  - logits: chunks of 192 MiB instead of 8192 rows, so the loss never determines the peak;
//  - attention: the forward state shares memory with dQ (- 4·a·d·n/T); dq, dk, dv also exist in the compute type
//    (+ 2·(a + 2k)·d·n/T); under full recompute the output and its log-sum-exp are work (+ (2·a·d + 4·a)·n/T);
//  - MLP: gate, up, their product and its gradient take 8·f·t/T; the formula has 12;
//  - ring: four travelling accumulators instead of two (+ 16·n·k·d/T);
//  - tensor ranks: three whole [n, h] in addition to the shards (+ 6·n·h);
//  - the table of the rotation for all positions (+ 8·R·S), 48 bytes per token for batch and losses;
//  - host: the last two layers never travel.
TEST(Plan, TheWorkedExamples) {
  struct Example {
    const char* name;
    ModelConfig model;
    int64_t nodes;
    GridShape grid;
    int64_t length;
    int zero;
    Recompute recompute;
    Offload offload;
    double states, kept, peak, host, seconds, mfu;  // from the table; GB of a rank, host of a node
    bool fits;
  };
  constexpr Offload kStay = Offload::kNone, kOut = Offload::kCheckpoints;
  constexpr Recompute kFull = Recompute::kFull, kSelective = Recompute::kSelective;
  constexpr int64_t k128K = 128 << 10, k1M = 1 << 20;
  const Example examples[] = {
      {"8B 128K", llama_8b(), 1, {1, 8, 1}, k128K, 1, kFull, kStay, 60.2, 4.3, 75, 0, 6.0, .41, true},
      {"8B 128K T2", llama_8b(), 1, {1, 4, 2}, k128K, 1, kSelective, kStay, 36.1, 8.7, 51, 0, 5.1, .48, true},
      {"8B 1M Z1", llama_8b(), 1, {1, 8, 1}, k1M, 1, kSelective, kOut, 60.2, 4.3, 85, 554, 243, .47, false},
      {"8B 1M full", llama_8b(), 1, {1, 8, 1}, k1M, 2, kFull, kOut, 33.9, 2.1, 56, 275, 299, .38, true},
      {"8B 1M", llama_8b(), 1, {1, 8, 1}, k1M, 2, kSelective, kOut, 33.9, 4.3, 58, 554, 243, .47, true},
      {"8B 1M on 32", llama_8b(), 4, {1, 32, 1}, k1M, 2, kSelective, kOut, 21.8, 1.1, 34, 139, 61, .47, true},
      {"8B 4M on 32", llama_8b(), 4, {1, 32, 1}, 4 * k1M, 2, kSelective, kOut, 21.8, 4.3, 46, 554, 937, .47, true},
      {"70B 128K", llama_70b(), 8, {1, 8, 8}, k128K, 1, kSelective, kStay, 66.1, 5.4, 75, 0, 4.0, .48, true},
      {"70B 1M", llama_70b(), 16, {1, 16, 8}, k1M, 1, kSelective, kOut, 59.5, .5, 64, 173, 79, .47, true},
  };
  for (const Example& example : examples) {
    SCOPED_TRACE(example.name);
    const ModelConfig& model = example.model;
    const PlannedMachine machine = h100(example.nodes);
    PlannedRun run = run_of(example.grid, example.length, example.zero, example.recompute);
    run.network.offload = example.offload;
    run.network.mlp_tile = 8192;
    const StepTime time = plan_step(model, run, machine);
    const double same_terms =
        time.seconds - time.elementwise - time.tensor - time.gradients - time.optimizer - time.ring;
    EXPECT_NEAR(same_terms / example.seconds, 1, .04) << same_terms;
    EXPECT_NEAR(time.peak_fraction * time.seconds / same_terms, example.mfu, .015);
    // All terms of this program. The table lacks most if gradients cross nodes after a short step (70B, 128K).
    EXPECT_LT(time.seconds, (example.grid.tensor == 8 ? 1.5 : 1.15) * example.seconds);
    EXPECT_LT(time.ring, .01 * time.seconds) << "hidden";
    EXPECT_EQ(time.offload, 0) << "hidden";

    const MemoryPlan memory(model, machine.profile, 1);
    const RankMemory rank = memory.rank(run, 0);
    const auto role = [&](const char* name) { return static_cast<double>(rank.of(name)); };
    const auto number = [](int64_t value) { return static_cast<double>(value); };
    const double h = number(model.hidden_size), f = number(model.intermediate_size), v = number(model.vocab_size);
    const double heads = number(model.num_attention_heads), d = number(model.head_dim), ad = heads * d;
    const double kd = number(model.num_key_value_heads) * d, layers = number(model.num_hidden_layers);
    const double n = number(run.layout().local()), t = std::min(8192.0, n), tensor = example.grid.tensor;
    const double dp_cp = example.grid.context * example.grid.data, all = number(model.parameter_count());
    const double layer = h * (2 * ad + 2 * kd + 3 * f);
    const bool full = example.recompute == kFull, zero2 = example.zero == 2;

    // The formulas: states, kept, residual, then layers or logits.
    const double states = (2 * all + (zero2 ? 4 * all / dp_cp + 8 * layer : 4 * all) + 12 * all / dp_cp) / tensor;
    const double token = full ? 2 * h : 2 * h + 2 * ad + 4 * heads;
    const double kept = token * n / tensor * (example.offload == kOut ? 2 : layers);
    const double residual = 4 * h * n / tensor;
    const double work =
        (n * (6 * h + 2 * ad + 4 * kd + 4 * ad + 4 * heads + 2 * ad + 4 * ad + 8 * kd) + 12 * f * t + 24 * n * kd) /
        tensor;
    const double logits = (8192 * v * 6 + 2 * n * h + 4 * v * h) / tensor;  // with the head's gradient, as in the table
    EXPECT_NEAR(states / 1e9, example.states, .06);
    EXPECT_NEAR(kept / 1e9, example.kept, .06);
    EXPECT_NEAR((states + kept + residual + std::max(work, logits) + 2e9) / 1e9, example.peak, .5);

    // What this program allocates.
    const double own_states = states + (zero2 ? 4 * 2 * v * h / tensor : 0);
    EXPECT_NEAR((role("weights") + role("gradients") + role("optimizer")) / own_states, 1, .005);
    EXPECT_NEAR(role("activations") / (kept + 2 * n * h / tensor), 1, .001) << "and the residual after the last layer";
    const double more = n * (2 * (ad + 2 * kd) - 4 * ad + 16 * kd + (full ? 2 * ad + 4 * heads : 0)) / tensor -
                        4 * f * t / tensor + (tensor > 1 ? 6 * n * h : 0) + 8 * d / 2 * number(example.length) + 48 * n;
    EXPECT_NEAR(static_cast<double>(rank.total) / (own_states + kept + residual + work + more + role("libraries")), 1,
                .01)
        << static_cast<double>(rank.total) / 1e9 << " GB";
    EXPECT_EQ(machine.fits(rank.total, rank.host), example.fits) << static_cast<double>(rank.total) / 1e9 << " GB";
    const double offloaded = example.offload == kOut ? token * n / tensor * (layers - 2) : 0;
    EXPECT_NEAR(8 * offloaded / 1e9, example.host * (layers - 2) / layers, .01 * example.host);
    // Batches, and the rotation's table while the run starts.
    const double staging = (40 + 8 + 8 * d / 2) * number(example.length) + 120 * n;
    EXPECT_NEAR(static_cast<double>(rank.host) / (offloaded + staging), 1, .02);
  }
}

}  // namespace
}  // namespace carillon::testing
