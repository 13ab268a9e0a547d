#include "launch/plan/step_counts.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "launch/plan/ring_plan.h"
#include "model/gradient_step.h"
#include "model/long_loss.h"
#include "parallel/tensor/row_shards.h"
#include "parallel/transport/device_communicator.h"

namespace carillon {
namespace {

// Communicator for host tensors: every other rank contributes what this one does, unless `gathered` gives the results
// of successive all-gathers, used cyclically.
class CountedHost : public Communicator {
 public:
  CountedHost(std::string name, int rank, int size, std::vector<std::vector<int64_t>> gathered = {})
      : name_(std::move(name)), rank_(rank), size_(size), gathered_(std::move(gathered)) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }

  void all_reduce(Tensor, Reduction) override {}
  void all_gather(Tensor y, Tensor, const std::vector<int64_t>&) override {
    CHECK(!gathered_.empty(), "what others say is known of the ring's readers only", name_, describe(y));
    const std::vector<int64_t>& said = gathered_[next_++ % gathered_.size()];
    CHECK(y.dtype() == DType::kInt64 && y.count() == static_cast<int64_t>(said.size()),
          "what others say is known of the ring's readers only", name_, describe(y));
    std::memcpy(y.raw(), said.data(), y.bytes());
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
  std::vector<std::vector<int64_t>> gathered_;
  size_t next_ = 0;
};

// Transport for device tensors: counts the calls that parallel/transport/nccl_communicator.cpp makes and what a ring
// sends for them; and records them, from start to wait, for the rank whose share takes longest.
class CountedTransport : public DeviceTransport {
 public:
  struct Axis {
    Exchange sums, gathers;  // purpose of its reductions, and of its gathers and exchanges
    int64_t inner;           // ranks of the closer part of the group; the group's size if there is none
    int64_t apart;           // world ranks from one rank of the group to the next
  };
  CountedTransport(const Communicator& host, Axis axis, bool beside_compute, StepCounts& counts, StepRecorder& recorder)
      : axis_(axis),
        rank_(host.rank()),
        size_(host.size()),
        beside_compute_(beside_compute),
        counts_(counts),
        recorder_(recorder) {}
  std::string describe() const override { return "counted"; }
  bool through_host() const override { return !beside_compute_; }

  void all_reduce(Tensor x, Reduction reduction) override { start_all_reduces({x}, reduction)->wait(); }
  void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    start_all_gather(y, x, counts)->wait();
  }
  void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    start_reduce_scatters({{y, x, counts}})->wait();
  }
  void broadcast(Tensor x, int root) override {
    if (x.empty()) return;
    const int64_t bytes = (size_ - 1) * static_cast<int64_t>(x.bytes());
    count(1, root == rank_ ? bytes : 0);
    begin(axis_.gathers, bytes, 1)->wait();
  }
  std::unique_ptr<Communicator::Transfer> start_all_reduces(const std::vector<Tensor>& tensors, Reduction) override {
    int64_t sent = 0, present = 0;
    for (const Tensor& x : tensors) {
      if (x.empty()) continue;
      const int64_t bytes = 2 * (size_ - 1) * static_cast<int64_t>(x.bytes()) / size_;
      count(1, bytes);
      sent += bytes, ++present;
      moved(axis_.sums, x, x);
    }
    return present == 0 ? Communicator::finished() : begin(axis_.sums, sent, present);
  }
  std::unique_ptr<Communicator::Transfer> start_all_gather(Tensor y, Tensor x,
                                                           const std::vector<int64_t>& counts) override {
    if (y.empty()) return Communicator::finished();
    // Uneven: one broadcast per rank, one of which is this rank's.
    count(even(counts) ? 1 : parts(counts), (size_ - 1) * static_cast<int64_t>(x.bytes()));
    const int64_t largest = *std::max_element(counts.begin(), counts.end());
    const int64_t row = static_cast<int64_t>(y.bytes()) / y.size(0);
    return begin(axis_.gathers, (size_ - 1) * largest * row, 1);
  }
  std::unique_ptr<Communicator::Transfer> start_reduce_scatters(
      const std::vector<Communicator::ReduceScatter>& list) override {
    int64_t sent = 0, present = 0;
    for (const auto& [y, x, counts] : list) {
      if (x.empty()) continue;
      // Even or grouped reductions send everything but the own part once.
      const auto bytes = static_cast<int64_t>(x.bytes() - y.bytes());
      count(even(counts) ? 1 : parts(counts), bytes);
      const int64_t row = static_cast<int64_t>(x.bytes()) / x.size(0);
      sent += static_cast<int64_t>(x.bytes()) - *std::min_element(counts.begin(), counts.end()) * row;
      ++present;
      moved(axis_.sums, x, y);
    }
    return present == 0 ? Communicator::finished() : begin(axis_.sums, sent, present);
  }
  std::unique_ptr<Communicator::Transfer> start_exchange(Tensor send, int to, Tensor receive, int from) override {
    const bool sends = !send.empty() && to >= 0, receives = !receive.empty() && from >= 0;
    const int64_t sent = sends ? static_cast<int64_t>(send.bytes()) : 0;
    const int64_t received = receives ? static_cast<int64_t>(receive.bytes()) : 0;
    count(sends + receives, sent);
    if (!sends && !receives) return Communicator::finished();
    const int64_t peer = sends ? to : from;
    const bool near = peer / axis_.inner == rank_ / axis_.inner;
    const int64_t span = (near ? axis_.inner : size_) * axis_.apart;
    return follow(recorder_.start(axis_.gathers, static_cast<double>(std::max(sent, received)), 1, 1, span));
  }

 private:
  class Followed : public Communicator::Transfer {
   public:
    Followed(StepRecorder& recorder, int64_t number) : recorder_(recorder), number_(number) {}
    void wait() override { recorder_.wait(number_); }

   private:
    StepRecorder& recorder_;
    int64_t number_;
  };
  std::unique_ptr<Communicator::Transfer> follow(int64_t number) {
    return std::make_unique<Followed>(recorder_, number);
  }
  std::unique_ptr<Communicator::Transfer> begin(Exchange exchange, int64_t bytes, int64_t tensors) {
    return follow(recorder_.start(exchange, static_cast<double>(bytes), tensors, size_ - 1, size_ * axis_.apart));
  }
  // Gradients are large, so reading and writing them in a reduction costs time in addition to the link's.
  void moved(Exchange exchange, const Tensor& x, const Tensor& y) {
    if (exchange == Exchange::kReduction) recorder_.moved(static_cast<double>(x.bytes() + y.bytes()));
  }
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
  Axis axis_;
  int rank_, size_;
  bool beside_compute_;
  StepCounts& counts_;
  StepRecorder& recorder_;
};

// Returns planned_grid with axes that count.
ProcessGrid counted_grid(const ModelConfig& model, const PlannedRun& run, int rank, CountingBackend& backend,
                         bool beside_compute, StepCounts& counts) {
  const int replicas = TensorShards(model, run.grid.tensor, 0).kv_replicas;
  ProcessGrid grid = planned_grid(run.grid, rank, replicas);
  for (auto* axis : {&grid.world, &grid.dp, &grid.cp, &grid.tp, &grid.dp_cp, &grid.kv_replicas}) {
    const Communicator& planned = **axis;
    std::vector<std::vector<int64_t>> gathered;  // of each mask
    if (axis == &grid.cp)
      for (const int64_t window : model.windows()) gathered.push_back(causal_readers(run.layout(), window));
    *axis = std::make_unique<CountedHost>(planned.name(), planned.rank(), planned.size(), std::move(gathered));
  }
  carry_device_tensors(
      grid, backend,
      [&](Backend&, Communicator& host) {
        const int64_t size = host.size(), tensor = run.grid.tensor;
        CountedTransport::Axis axis{Exchange::kReduction, Exchange::kWeights, size, tensor};  // dp_cp
        if (host.name() == "cp")
          axis = {Exchange::kRing, Exchange::kRing, run.grid.ring_inner == 0 ? size : run.grid.ring_inner, tensor};
        if (host.name() == "tp") axis = {Exchange::kTensor, Exchange::kTensor, size, 1};
        if (host.name() == "kv_replicas") axis = {Exchange::kReduction, Exchange::kReduction, size, 1};
        return std::make_unique<CountedTransport>(host, axis, beside_compute, counts, backend.recorder());
      },
      /*apart=*/true);  // the purposes of the axes are kept apart
  return grid;
}

// Returns this rank's tokens of sequences with one document each.
HostBatch whole_documents(const SequenceLayout& layout, int cp_rank, int64_t batch) {
  HostBatch local(batch, layout.local());
  for (int64_t row = 0; row < batch * layout.local(); ++row) {
    const int64_t index = layout.index_of(cp_rank, row % layout.local());
    const auto at = static_cast<size_t>(row);
    local.position[at] = index < layout.length() ? index : 0;
    local.first[at] = index < layout.length() ? 0 : layout.padded();
    local.reach[at] = index < layout.length() ? layout.length() : 0;
    if (index + 1 < layout.length()) local.target[at] = 0, local.target_weight[at] = 1;
  }
  return local;
}

// The same before sharding.
HostBatch whole_documents(int64_t length, int64_t batch) {
  HostBatch whole(batch, length);
  for (int64_t row = 0; row < batch * length; ++row) {
    const int64_t index = row % length;
    const auto at = static_cast<size_t>(row);
    whole.position[at] = index;
    whole.first[at] = 0;
    whole.reach[at] = length;
    if (index + 1 < length) whole.target[at] = 0, whole.target_weight[at] = 1;
  }
  return whole;
}

// A counting rank and its network.
class CountedRank {
 public:
  CountedRank(const ModelConfig& model, const PlannedRun& run, int rank, bool beside_compute)
      : backend_(run.fused_attention),
        grid_(counted_grid(model, run, rank, backend_, beside_compute, counts_)),
        network_(backend_, grid_, model, run.network),
        documents_(whole_documents(network_.layout(), grid_.cp_rank, run.network.batch)),
        batch_(documents_.view()) {
    if (!run.long_loss) return;
    long_loss_.emplace(network_, grid_, *run.long_loss);
    whole_.emplace(whole_documents(run.network.sequence_length, run.network.batch));
  }
  CountedRank(const CountedRank&) = delete;

  void step(int64_t micro_steps) {
    accumulate_gradients(network_, grid_, micro_steps, [&](int64_t) -> const MicroBatch& {
      backend_.begin_micro_step();
      if (long_loss_) weighted_batch_ = long_loss_->weigh(whole_->view(), batch_);
      return long_loss_ ? weighted_batch_ : batch_;
    });
    backend_.recorder().begin_update();
    network_.optimizer().step(1, 1, 0.9);
  }
  void reset() {
    backend_.reset();
    counts_ = {};
    for (auto* axis : {&grid_.cp, &grid_.tp, &grid_.dp_cp}) (*axis)->reset_traffic();
    backend_.recorder().take();
  }
  StepCounts counts() {
    StepCounts counts = counts_;
    counts.device = backend_.counts();
    counts.allocated_bytes = static_cast<int64_t>(network_.bytes());
    for (const Communicator* axis : {grid_.cp.get(), grid_.tp.get(), grid_.dp_cp.get()}) {
      const Traffic& traffic = axis->traffic();
      counts.axes[axis->name()] = {traffic.total_bytes(), traffic.total_calls()};
    }
    return counts;
  }
  StepRecord record() { return backend_.recorder().take(); }

 private:
  StepCounts counts_;
  CountingBackend backend_;
  ProcessGrid grid_;
  Network network_;
  HostBatch documents_;
  MicroBatch batch_, weighted_batch_;
  std::optional<LongLoss> long_loss_;
  std::optional<HostBatch> whole_;  // documents_ before they were sharded
};

}  // namespace

StepCounts count_step(const ModelConfig& model, const PlannedRun& run, int rank) {
  CountedRank counted(model, run, rank, /*beside_compute=*/true);
  counted.step(1);  // the first step uploads what stays
  counted.reset();
  counted.step(run.accumulation);
  return counted.counts();
}

StepRecord record_step(const ModelConfig& model, const PlannedRun& run, int rank, bool beside_compute) {
  CountedRank counted(model, run, rank, beside_compute);
  counted.step(std::min<int64_t>(run.accumulation, 3));
  StepRecord record = counted.record();
  record.accumulation = run.accumulation;
  const int64_t tensor = run.grid.tensor;
  record.tensor_chunks =
      RowShards(run.rows(), tensor, tensor_chunks(run.rows() / tensor, tensor, beside_compute)).chunks();
  return record;
}

int recorded_rank(const PlannedRun& run) {
  return run.network.layout == LayoutKind::kContiguous ? (run.grid.context - 1) * run.grid.tensor : 0;
}

}  // namespace carillon
