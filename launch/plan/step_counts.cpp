#include "launch/plan/step_counts.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "launch/plan/ring_plan.h"
#include "model/gradient_step.h"
#include "parallel/transport/device_communicator.h"

namespace carillon {
namespace {

// For tensors of the host: a rank among others that say what it says, unless `gathered` is what they say together.
class CountedHost : public Communicator {
 public:
  CountedHost(std::string name, int rank, int size, std::vector<int64_t> gathered = {})
      : name_(std::move(name)), rank_(rank), size_(size), gathered_(std::move(gathered)) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }

  void all_reduce(Tensor, Reduction) override {}
  void all_gather(Tensor y, Tensor, const std::vector<int64_t>&) override {
    CHECK(y.dtype() == DType::kInt64 && y.count() == static_cast<int64_t>(gathered_.size()),
          "what others say is known of the ring's readers only", name_, describe(y));
    std::memcpy(y.raw(), gathered_.data(), y.bytes());
  }
  void reduce_scatter(Tensor, Tensor, const std::vector<int64_t>&) override { refuse("reduce_scatter"); }
  void broadcast(Tensor, int) override {}
  void barrier() override {}
  std::unique_ptr<Transfer> start_exchange(Tensor, int, Tensor, int, Kind) override { return Communicator::finished(); }
  std::unique_ptr<Communicator> split(int, int, std::string) override { refuse("split"); }

 private:
  [[noreturn]] void refuse(const char* operation) const {
    throw InternalError(fmt::format("{} of host tensors on axis {} of a counted step", operation, name_));
  }
  std::string name_;
  int rank_, size_;
  std::vector<int64_t> gathered_;
};

// For tensors of the device: what parallel/transport/nccl_communicator.cpp calls, and what a ring sends for it.
class CountedTransport : public ImmediateTransport {
 public:
  CountedTransport(int rank, int size, StepCounts& counts) : rank_(rank), size_(size), counts_(counts) {}
  std::string describe() const override { return "counted"; }

  void all_reduce(Tensor x, Reduction) override {
    if (x.empty()) return;
    count(1, 2 * (size_ - 1) * static_cast<int64_t>(x.bytes()) / size_);
  }
  void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    if (y.empty()) return;
    if (even(counts)) return count(1, (size_ - 1) * static_cast<int64_t>(x.bytes()));
    count(parts(counts), (size_ - 1) * static_cast<int64_t>(x.bytes()));  // broadcasts, one of them this rank's
  }
  void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    if (x.empty()) return;
    // Even or grouped reductions: all but the own part is sent once.
    count(even(counts) ? 1 : parts(counts), static_cast<int64_t>(x.bytes() - y.bytes()));
  }
  void broadcast(Tensor x, int root) override {
    if (!x.empty()) count(1, root == rank_ ? (size_ - 1) * static_cast<int64_t>(x.bytes()) : 0);
  }
  std::unique_ptr<Communicator::Transfer> start_exchange(Tensor send, int to, Tensor receive, int from) override {
    const bool sends = !send.empty() && to >= 0, receives = !receive.empty() && from >= 0;
    count(sends + receives, sends ? static_cast<int64_t>(send.bytes()) : 0);
    return Communicator::finished();
  }

 private:
  void count(int64_t operations, int64_t bytes) {
    counts_.nccl_operations += operations;
    counts_.nccl_sent_bytes += bytes;
  }
  static bool even(const std::vector<int64_t>& counts) {
    return std::all_of(counts.begin(), counts.end(), [&](int64_t rows) { return rows == counts.front(); });
  }
  static int64_t parts(const std::vector<int64_t>& counts) {
    return std::count_if(counts.begin(), counts.end(), [](int64_t rows) { return rows > 0; });
  }
  int rank_, size_;
  StepCounts& counts_;
};

// The grid of planned_grid, whose axes count.
ProcessGrid counted_grid(const ModelConfig& model, const PlannedRun& run, int rank, Backend& backend,
                         StepCounts& counts) {
  const int replicas = TensorShards(model, run.grid.tensor, 0).kv_replicas;
  ProcessGrid grid = planned_grid(run.grid, rank, replicas);
  for (auto* axis : {&grid.world, &grid.dp, &grid.cp, &grid.tp, &grid.dp_cp, &grid.kv_replicas}) {
    const Communicator& planned = **axis;
    std::vector<int64_t> gathered;
    if (axis == &grid.cp) gathered = causal_readers(run.layout(), model.windows().back());
    *axis = std::make_unique<CountedHost>(planned.name(), planned.rank(), planned.size(), std::move(gathered));
  }
  carry_device_tensors(grid, backend, [&](Backend&, Communicator& host) {
    return std::make_unique<CountedTransport>(host.rank(), host.size(), counts);
  });
  return grid;
}

// This rank's tokens of sequences of one document each.
HostBatch whole_documents(const SequenceLayout& layout, int cp_rank, int64_t batch) {
  HostBatch local(batch, layout.local());
  for (int64_t row = 0; row < batch * layout.local(); ++row) {
    const int64_t index = layout.index_of(cp_rank, row % layout.local());
    const auto at = static_cast<size_t>(row);
    local.position[at] = index < layout.length() ? index : 0;
    local.first[at] = index < layout.length() ? 0 : layout.padded();
    if (index + 1 < layout.length()) local.target[at] = 0, local.target_weight[at] = 1;
  }
  return local;
}

}  // namespace

StepCounts count_step(const ModelConfig& model, const PlannedRun& run, int rank) {
  StepCounts counts;
  CountingBackend backend(run.fused_attention);
  ProcessGrid grid = counted_grid(model, run, rank, backend, counts);
  Network network(backend, grid, model, run.network);
  HostBatch documents = whole_documents(network.layout(), grid.cp_rank, run.network.batch);
  const MicroBatch batch = documents.view();
  const auto step = [&](int64_t micro_steps) {
    accumulate_gradients(network, grid, micro_steps, [&](int64_t) -> const MicroBatch& { return batch; });
    network.optimizer().step(1, 1, 0.9);
  };
  step(1);  // the first one uploads what lasts
  backend.reset();
  const size_t lasting_bytes = network.bytes();
  counts = {};
  for (auto* axis : {&grid.cp, &grid.tp, &grid.dp_cp}) (*axis)->reset_traffic();
  step(run.accumulation);
  counts.device = backend.counts();
  counts.allocated_bytes = static_cast<int64_t>(lasting_bytes);
  for (const Communicator* axis : {grid.cp.get(), grid.tp.get(), grid.dp_cp.get()}) {
    const Traffic& traffic = axis->traffic();
    counts.axes[axis->name()] = {traffic.total_bytes(), traffic.total_calls()};
  }
  return counts;
}

}  // namespace carillon
