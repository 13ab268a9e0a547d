#include "launch/plan/planned_run.h"

#include <algorithm>

#include "launch/train/training_step.h"

namespace carillon {
namespace {

class PlannedCommunicator : public Communicator {
 public:
  PlannedCommunicator(std::string name, int rank, int size) : name_(std::move(name)), rank_(rank), size_(size) {
    CHECK(0 <= rank && rank < size, "a rank of its group", name_, rank, size);
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }

  void all_reduce(Tensor, Reduction) override { refuse("all_reduce"); }
  void all_gather(Tensor, Tensor, const std::vector<int64_t>&) override { refuse("all_gather"); }
  void reduce_scatter(Tensor, Tensor, const std::vector<int64_t>&) override { refuse("reduce_scatter"); }
  void broadcast(Tensor, int) override { refuse("broadcast"); }
  void barrier() override { refuse("barrier"); }
  std::unique_ptr<Transfer> start_exchange(Tensor, int, Tensor, int, Kind) override { refuse("start_exchange"); }
  std::unique_ptr<Communicator> split(int, int, std::string) override { refuse("split"); }

 private:
  [[noreturn]] void refuse(const char* operation) const {
    throw InternalError(fmt::format("{} on axis {} of a plan: planned ranks exchange nothing", operation, name_));
  }
  std::string name_;
  int rank_, size_;
};

}  // namespace

PlannedRun planned_run(const RunConfig& config, const ModelRope& rope, GridShape grid, const PlannedMachine& machine) {
  const RingChoice ring = config.parallel.ring_choice();
  const bool bfloat16 = config.runtime.dtype == DType::kBFloat16, automatic = config.runtime.attention == "auto";
  return {with_ring(grid, ring, machine.ranks_per_node),
          network_options_of(config, rope),
          config.train.gradient_accumulation_steps,
          ring,
          bfloat16 && (config.runtime.attention == "cudnn" ||
                       (automatic && machine.profile.runs_engine(DType::kBFloat16, "cudnn"))),
          config.checkpoint.async,
          config.train.loss == TrainingLoss::kLongCrossEntropy ? std::optional(config.train.long_loss) : std::nullopt};
}

GridShape with_ring(GridShape grid, RingChoice ring, int64_t ranks_per_node) {
  std::vector<int64_t> nodes(static_cast<size_t>(grid.size()));
  for (size_t rank = 0; rank < nodes.size(); ++rank) nodes[rank] = static_cast<int64_t>(rank) / ranks_per_node;
  grid.ring_inner = ring_inner(ring, grid, nodes);
  return grid;
}

std::unique_ptr<Communicator> planned_communicator(std::string name, int rank, int size) {
  return std::make_unique<PlannedCommunicator>(std::move(name), rank, size);
}

ProcessGrid planned_grid(GridShape shape, int rank, int kv_replicas) {
  ProcessGrid grid;
  grid.shape = shape;
  grid.tp_rank = rank % shape.tensor;
  grid.cp_rank = rank / shape.tensor % shape.context;
  grid.dp_rank = rank / (shape.tensor * shape.context);
  grid.world = planned_communicator("world", rank, shape.size());
  grid.dp = planned_communicator("dp", grid.dp_rank, shape.data);
  grid.cp = planned_communicator("cp", grid.cp_rank, shape.context);
  grid.tp = planned_communicator("tp", grid.tp_rank, shape.tensor);
  grid.dp_cp = planned_communicator("dp_cp", grid.dp_rank * shape.context + grid.cp_rank, shape.data * shape.context);
  grid.kv_replicas = planned_communicator("kv_replicas", grid.tp_rank % kv_replicas, kv_replicas);
  return grid;
}

std::string name_of(Recompute recompute) {
  switch (recompute) {
    case Recompute::kNone:
      return "none";
    case Recompute::kSelective:
      return "selective";
    case Recompute::kFull:
      return "full";
  }
  return "unknown";
}

std::string name_of(Offload offload) {
  switch (offload) {
    case Offload::kNone:
      return "none";
    case Offload::kCheckpoints:
      return "checkpoints";
    case Offload::kOptimizer:
      return "optimizer";
    case Offload::kAll:
      return "all";
  }
  return "unknown";
}

std::string describe(const PlannedRun& run) {
  const NetworkOptions& network = run.network;
  return fmt::format("data {}, context {}{}, tensor {}, ZeRO {}, recompute {}{}{}", run.grid.data, run.grid.context,
                     run.grid.ring_inner == 0 ? "" : " in a " + describe_ring(run.grid), run.grid.tensor,
                     network.optimizer.zero, name_of(network.recompute),
                     network.offload == Offload::kNone ? "" : ", offload " + name_of(network.offload),
                     network.mlp_tile == 0 ? "" : fmt::format(", MLP in tiles of {} rows", network.mlp_tile));
}

}  // namespace carillon
