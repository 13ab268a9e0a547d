#include "launch/plan/memory_plan.h"

#include <algorithm>
#include <set>

#include "parallel/transport/nccl_library.h"
#include "runtime/scratch.h"

namespace carillon {
namespace {

constexpr const char* kRoles[] = {"weights",   "gradients", "optimizer", "activations", "work",
                                  "attention", "loss",      "batch",     "rotation"};

int replicas(const ModelConfig& model, int tensor) { return TensorShards(model, tensor, 0).kv_replicas; }

// The largest memory for the partial sums of all norms of one layer.
int64_t open_norms_of_a_layer(const ModelConfig& model, const PlannedRun& run, const TensorShards& shards) {
  if (model.adapter) return 0;  // norms are frozen
  const auto sums = [&](int64_t rows, int64_t channels) {
    return open_norm_bytes(rows, channels, run.network.compute);
  };
  const int64_t rows = run.rows(), width = model.head_dim;
  int64_t most = 0;
  for (const LayerSpec& layer : model.layers) {
    int64_t bytes = ((layer.norm_before() ? 2 : 0) + (layer.norm_after() ? 2 : 0)) *
                    sums(rows / run.grid.tensor, model.hidden_size);
    for (const int64_t heads : {shards.heads, shards.kv_heads})
      if (layer.attention.qk_norm == QkNorm::kProjection)
        bytes += sums(rows, heads * width);
      else if (layer.attention.qk_norm != QkNorm::kNone)
        bytes += sums(rows * heads, width);
    most = std::max(most, bytes);
  }
  return most;
}

ScratchShape scratch_shape(const ModelConfig& model, const MachineProfile& machine, int threads, const PlannedRun& run,
                           const TensorShards& shards) {
  ScratchShape shape;
  shape.device = machine.device;
  shape.instruction_set = machine.instruction_set;
  shape.compute = run.network.compute;
  shape.threads = threads;
  shape.batch = run.network.batch;
  shape.queries = shape.keys = run.layout().local();
  shape.heads = shards.heads;
  shape.kv_heads = shards.kv_heads;
  shape.head_dim = model.head_dim;
  shape.fused_attention = run.fused_attention;
  const int64_t rows = run.rows(), mlp_rows = run.mlp_rows(), mlp = 2 * shards.mlp.size();
  const int64_t head = shards.vocabulary.size() * model.hidden_size;
  shape.hidden = model.hidden_size;
  shape.open_norms = open_norms_of_a_layer(model, run, shards);
  if (model.any([](const LayerSpec& layer) { return layer.attention.qkv_bias; }))
    shape.widest_bias = (shards.heads + 2 * shards.kv_heads) * model.head_dim;
  if (model.any([](const LayerSpec& layer) { return layer.mlp.bias; }))
    shape.widest_bias = std::max(shape.widest_bias, mlp);
  // Products whose operand is C or heads wide take all rows, those as wide as the MLP one tile at a time.
  const int64_t narrow = rows * std::max(model.hidden_size, shards.heads * model.head_dim);
  shape.largest_left = std::max(mlp_rows * mlp, narrow);
  shape.largest_right = std::max({head, mlp * model.hidden_size, mlp_rows * shards.mlp.size(), narrow});
  shape.largest_result = std::max(mlp_rows * mlp, rows * (shards.heads + 2 * shards.kv_heads) * model.head_dim);
  return shape;
}

// Host memory of the batch loader (whole sequences), of the sharded batch, and of the network's uploads and downloads;
// see data/corpus/batch_loader.h, parallel/context/micro_batch.h, and staged_ and host_ in model/ and parallel/.
int64_t staging_bytes(const PlannedRun& run) {
  const int64_t wide = static_cast<int64_t>(size_of(accumulate_type(run.network.compute))), rows = run.rows();
  const int64_t whole = run.network.batch * run.network.sequence_length;
  const int64_t loader = whole * 48, sharded = rows * 48;
  const int64_t network =
      rows * (16 + 2 * wide) + rows * 8 + rows * (3 * 8 + 2 * wide + 8) + rows / run.grid.tensor * 16;
  return loader + sharded + network;
}

// Host memory that a starting run releases before its first step: part of a parameter's random numbers
// (Parameters::initialize) or a stored parameter, and the rotation's table (model/transformer.cpp).
int64_t starting_bytes(const ModelConfig& model, const PlannedRun& run, const TensorShards& shards, bool random) {
  const int64_t wide = static_cast<int64_t>(size_of(accumulate_type(run.network.compute)));
  const int64_t narrow = static_cast<int64_t>(size_of(run.network.compute));
  const int64_t largest =
      model.hidden_size * std::max({shards.vocabulary.size(), shards.mlp.size(), shards.heads * model.head_dim});
  const int64_t weights = random ? std::min(largest, Parameters::kDrawnAtOnce) * narrow : largest * wide;
  const bool mixed = model.rope.mixed_windows || (model.sliding_rope && model.sliding_rope->mixed_windows);
  const int64_t rotation = run.layout().padded() * (8 + (mixed ? 2 : 1) * 2 * model.rotary_pairs() * wide);
  return std::max(weights, rotation);
}

// MPI reductions receive the other ranks' parts together, up to 4 Mi elements of each (parallel/mpi_communicator).
int64_t communication_bytes(const ModelConfig& model, const PlannedRun& run, const TensorShards& shards) {
  constexpr int64_t kBlock = int64_t{4} << 20;
  const int64_t wide = static_cast<int64_t>(size_of(accumulate_type(run.network.compute)));
  const int64_t narrow = static_cast<int64_t>(size_of(run.network.compute));
  const int64_t dp_cp = run.grid.data * run.grid.context, tensor = run.grid.tensor;
  int64_t bytes = 0;
  if (dp_cp > 1) {
    const int64_t largest =
        model.hidden_size * std::max({shards.vocabulary.size(), shards.mlp.size(), shards.heads * model.head_dim});
    bytes += dp_cp * std::min(kBlock, (largest + dp_cp - 1) / dp_cp) * wide;
  }
  if (tensor > 1) bytes += tensor * std::min(kBlock, run.rows() / tensor * model.hidden_size) * narrow;
  return bytes;
}

// In excess of the ring with which the profile's libraries were measured.
int64_t communicators_bytes(const MachineProfile& machine, const GridShape& grid, int kv_replicas) {
  if (machine.device != "cuda") return 0;
  const GridShape measured{1, machine.library_ranks, 1};
  return std::max<int64_t>(nccl_bytes(opened_groups(grid, kv_replicas)) - nccl_bytes(opened_groups(measured, 1)), 0);
}

std::string ranges(const std::vector<int>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i;
    while (end + 1 < numbers.size() && numbers[end + 1] == numbers[end] + 1) ++end;
    text += (text.empty() ? "" : ", ") +
            (end == i ? fmt::format("{}", numbers[i]) : fmt::format("{}-{}", numbers[i], numbers[end]));
    i = end + 1;
  }
  return text;
}

}  // namespace

int64_t RankMemory::of(const std::string& role) const {
  for (const auto& [name, bytes] : roles)
    if (name == role) return bytes;
  return 0;
}

MemoryPlan::MemoryPlan(const ModelConfig& model, const MachineProfile& machine, int threads, int64_t evaluation_length,
                       bool random_weights)
    : model_(model),
      machine_(machine),
      threads_(threads),
      evaluation_length_(evaluation_length),
      random_weights_(random_weights),
      // Never computes; needed only to construct a Network.
      backend_(make_backend({.device = "reference", .threads = 1})) {}

MemoryPlan::~MemoryPlan() = default;

RankMemory MemoryPlan::rank(const PlannedRun& run, int rank) const {
  require_tensor_parallel(model_, run.grid.tensor);
  ProcessGrid grid = planned_grid(run.grid, rank, replicas(model_, run.grid.tensor));
  const TensorShards shards(model_, run.grid.tensor, grid.tp_rank);
  const NetworkMemory network = Network::measure(*backend_, grid, model_, run.network);

  RankMemory memory;
  memory.allocated = static_cast<int64_t>(network.bytes);
  std::map<std::string, int64_t> by_role;
  int64_t named = 0;
  for (const auto& [name, bytes] : network.by_name) {
    by_role[name.substr(0, name.find('.'))] += static_cast<int64_t>(bytes);
    named += static_cast<int64_t>(bytes);
    memory.tensors.emplace_back(name, static_cast<int64_t>(bytes));
  }
  std::stable_sort(memory.tensors.begin(), memory.tensors.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  // Attention's forward state shares memory with its gradients, and the loss with the layers' work: the named tensors
  // exceed the allocation.
  const int64_t shared = std::max<int64_t>(named - memory.allocated, 0);

  for (const char* role : kRoles) {
    memory.roles.emplace_back(role, by_role[role]);
    by_role.erase(role);
  }
  for (const auto& [role, bytes] : by_role) memory.roles.emplace_back(role, bytes);
  memory.roles.emplace_back("used in turn", -shared);
  memory.roles.emplace_back("gaps", memory.allocated - (named - shared));
  memory.total = memory.allocated;
  const auto add = [&](const char* role, int64_t bytes) {
    memory.roles.emplace_back(role, bytes);
    memory.total += bytes;
  };
  if (evaluation_length_ > 0) {
    NetworkOptions evaluation = run.network;
    evaluation.training = false;
    evaluation.mlp_tile = 0;  // a scorer's MLP takes all rows at once
    evaluation.offload = Offload::kNone;
    evaluation.batch = 1;
    // Sequences shorter than the ring are padded, as in the scorer.
    evaluation.sequence_length = std::max<int64_t>(evaluation_length_ + 1, int64_t{2} * run.grid.context);
    const NetworkMemory measured = Network::measure(*backend_, grid, model_, evaluation);
    size_t weights = 0;
    for (const auto& [name, bytes] : measured.by_name)
      if (name.starts_with("weights")) weights += bytes;
    add("evaluation", static_cast<int64_t>(measured.bytes - weights));
  }
  add("backend scratch",
      static_cast<int64_t>(backend_scratch_bytes(scratch_shape(model_, machine_, threads_, run, shards))));
  const int64_t staging = staging_bytes(run), starting = starting_bytes(model_, run, shards, random_weights_);
  if (machine_.device == "cpu") {
    // Scratch and reductions are not allocated yet while the run starts, so only what the start needs in excess of them
    // counts.
    const int64_t communication = communication_bytes(model_, run, shards);
    const int64_t later = memory.of("backend scratch") + communication;
    add("host staging", staging);
    add("communication", communication);
    add("start", std::max<int64_t>(starting - later, 0));
  }
  const auto on_host = [&](const char* role, int64_t bytes) {
    if (bytes == 0) return;
    memory.host_roles.emplace_back(role, bytes);
    memory.host += bytes;
  };
  int64_t offloaded_named = 0;
  for (const char* role : {"checkpoints", "optimizer"}) {
    int64_t bytes = 0;
    for (const auto& [name, size] : network.host_by_name)
      if (name.starts_with(std::string(role) + ".")) bytes += static_cast<int64_t>(size);
    on_host(role, bytes);
    offloaded_named += bytes;
  }
  on_host("gaps", static_cast<int64_t>(network.host_bytes) - offloaded_named);
  // The copy of a background save: the rank's own part of a checkpoint (data/checkpoint/background_save.h).
  if (run.background_saves) {
    const bool first = grid.dp_cp->rank() == 0;
    int64_t copied = first ? memory.of("weights") : 0;
    for (const auto* names : {&network.by_name, &network.host_by_name})
      for (const auto& [name, bytes] : *names)
        if (name.starts_with("optimizer.") && (first || run.network.optimizer.zero > 0))
          copied += static_cast<int64_t>(bytes);
    if (machine_.device == "cpu")
      add("checkpoint copy", copied);
    else
      on_host("checkpoint copy", copied);
  }
  if (machine_.device != "cpu") {
    on_host("staging", staging);
    on_host("start", starting);
  }
  add("libraries", machine_.library_bytes + communicators_bytes(machine_, run.grid, replicas(model_, run.grid.tensor)));
  return memory;
}

std::vector<RankGroup> MemoryPlan::groups(const PlannedRun& run) const {
  require_tensor_parallel(model_, run.grid.tensor);
  const int dp_cp = run.grid.data * run.grid.context;
  // Shares of rows differ by at most one, so dp_cp ranks are alike unless some parameter's rows do not divide evenly,
  // and then they change only at the remainders. Measuring each distinct shape once keeps a plan of a thousand ranks
  // fast.
  std::map<std::vector<int64_t>, size_t> known;
  std::vector<RankGroup> groups;
  for (int tensor = 0; tensor < run.grid.tensor; ++tensor) {
    const TensorShards shards(model_, run.grid.tensor, tensor);
    Arena measuring;
    Parameters parameters(model_, shards, {run.network.compute, true, false}, measuring);
    std::set<int64_t> row_counts;
    parameters.for_each([&](Parameter& parameter) {
      if (!parameter.frozen) row_counts.insert(parameter.weight.size(0));
    });
    for (int shard = 0; shard < dp_cp; ++shard) {
      std::vector<int64_t> shape{shards.heads, shards.kv_heads, shards.mlp.size(), shards.vocabulary.size()};
      for (const int64_t rows : row_counts)
        shape.push_back(run.network.optimizer.zero == 0 ? rows : share_of(rows, dp_cp, shard).size());
      if (run.background_saves) shape.push_back(shard == 0);  // the first writes the weights
      const int world_rank = shard * run.grid.tensor + tensor;
      const auto [found, fresh] = known.emplace(shape, groups.size());
      if (fresh) {
        RankMemory memory = rank(run, world_rank);
        // Different shares that give equal memory are one group.
        size_t same = 0;
        while (same < groups.size() && groups[same].memory.roles != memory.roles) ++same;
        found->second = same;
        if (same == groups.size()) groups.push_back({{}, "", std::move(memory)});
      }
      groups[found->second].ranks.push_back(world_rank);
    }
  }
  for (RankGroup& group : groups) {
    std::sort(group.ranks.begin(), group.ranks.end());
    group.name = static_cast<int>(group.ranks.size()) == run.grid.size()
                     ? "all ranks"
                     : (group.ranks.size() == 1 ? "rank " : "ranks ") + ranges(group.ranks);
  }
  std::stable_sort(groups.begin(), groups.end(),
                   [](const RankGroup& a, const RankGroup& b) { return a.memory.total > b.memory.total; });
  return groups;
}

int64_t MemoryPlan::longest_sequence(const PlannedRun& run, int64_t bytes, int64_t host_bytes) const {
  const int64_t granule = int64_t{2} * run.grid.context * run.grid.tensor;
  const auto fits = [&](int64_t granules) {
    PlannedRun longer = run;
    longer.network.sequence_length = granules * granule;
    const RankMemory memory = rank(longer, 0);
    return memory.total <= bytes && memory.host <= host_bytes;
  };
  if (!fits(1)) return 0;
  // Memory never decreases with the length, and each token takes at least its place in the rotation table.
  int64_t low = 1, high = 2;
  while (fits(high)) low = high, high *= 2;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low * granule;
}

}  // namespace carillon
