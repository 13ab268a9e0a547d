// Known models, machines and runs for the planner's tests.
#pragma once

#include "launch/plan/planned_run.h"
#include "launch/plan/time_plan.h"

namespace carillon::testing {

inline ModelConfig geometry(int64_t vocabulary, int64_t channels, int64_t mlp, int64_t layers, int64_t heads,
                            int64_t kv_heads, int64_t head_dim, bool tied = false) {
  return parse_model_config(
      fmt::format(R"({{"model_type": "llama", "vocab_size": {}, "hidden_size": {}, "intermediate_size": {},
        "num_hidden_layers": {}, "num_attention_heads": {}, "num_key_value_heads": {}, "head_dim": {},
        "max_position_embeddings": 1048576, "tie_word_embeddings": {}}})",
                  vocabulary, channels, mlp, layers, heads, kv_heads, head_dim, tied),
      "the test");
}
inline ModelConfig llama_8b() { return geometry(128256, 4096, 14336, 32, 32, 8, 128); }
inline ModelConfig llama_70b() { return geometry(128256, 8192, 28672, 80, 64, 8, 128); }
inline ModelConfig smollm_135m() { return geometry(49152, 576, 1536, 30, 9, 3, 64, true); }

// A device with 1 FLOP/s in every float32 product and in attention with heads of 4; four ranks per node.
inline PlannedMachine unit_machine(double bytes_per_second) {
  PlannedMachine machine;
  machine.profile.device = "cuda";
  machine.profile.products[DType::kFloat32] = {{8, 8, 8, 1}};
  machine.profile.attention[DType::kFloat32] = {{4, 16, 1, 1}};
  machine.profile.within_node = {bytes_per_second, 0};
  machine.ranks_per_node = 4;
  return machine;
}

// H100s as in the worked examples: 989 TFLOP/s, of which products reach 65 %, attention 65 % forward and 52 % backward.
inline PlannedMachine h100(int64_t nodes, double latency = 0) {
  PlannedMachine machine;
  MachineProfile& profile = machine.profile;
  profile.name = "worked example";
  profile.device = "cuda";
  profile.ranks_per_node = 8;
  profile.memory_bytes = int64_t{80} << 30;
  profile.library_bytes = 2'000'000'000;
  profile.products[DType::kBFloat16] = {{8192, 8192, 8192, .65 * 989e12}};
  profile.attention[DType::kBFloat16] = {{128, 16384, .65 * 989e12, .52 * 989e12}};
  profile.memory_bytes_per_second = 2.8e12;
  profile.within_node = {.8 * 450e9, latency};
  profile.between_nodes = {.9 * 50e9, latency};
  profile.host = {55e9, latency};
  profile.host_memory_bytes = int64_t{2} << 40;
  profile.peak_flops_per_second[DType::kBFloat16] = 989e12;
  machine.nodes = nodes;
  machine.ranks_per_node = 8;
  return machine;
}

inline PlannedRun run_of(GridShape grid, int64_t length, int zero, Recompute recompute,
                         DType compute = DType::kBFloat16) {
  PlannedRun run;
  run.grid = grid;
  run.network.compute = compute;
  run.network.sequence_length = length;
  run.network.recompute = recompute;
  run.network.optimizer.zero = zero;
  return run;
}

}  // namespace carillon::testing
