// When the reductions of gradients are started and waited for: the order in which a step puts ops and collectives on a
// device, as seen by a backend and a transport that only count. tests/model/gradient_overlap_test.cpp checks the
// values; only this test would notice if all reductions were started at the end.
#include <gtest/gtest.h>

#include "launch/plan/counting_backend.h"
#include "model/gradient_step.h"
#include "parallel/transport/device_communicator.h"
#include "tests/launch/plan_cases.h"

namespace carillon::testing {
namespace {

// A rank on the host without peers: its collectives leave the data as it is.
class NoOpCommunicator : public Communicator {
 public:
  NoOpCommunicator(std::string name, int rank, int size) : name_(std::move(name)), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }
  void all_reduce(Tensor, Reduction) override {}
  void all_gather(Tensor, Tensor, const std::vector<int64_t>&) override {}
  void reduce_scatter(Tensor, Tensor, const std::vector<int64_t>&) override {}
  void broadcast(Tensor, int) override {}
  void barrier() override {}
  std::unique_ptr<Transfer> start_exchange(Tensor, int, Tensor, int, Kind) override { return finished(); }
  std::unique_ptr<Communicator> split(int, int, std::string) override { return nullptr; }

 private:
  std::string name_;
  int rank_, size_;
};

// A reduction that was started: the number of kernels and products before its start, and before its wait (-1: never).
struct Started {
  std::vector<const void*> tensors;
  int64_t begin = 0, end = -1;
};

class RecordingTransport : public DeviceTransport {
 public:
  RecordingTransport(const CountingBackend& backend, std::vector<Started>& started)
      : backend_(backend), started_(started) {}
  std::string describe() const override { return "recording"; }
  void all_reduce(Tensor, Reduction) override { ADD_FAILURE() << "gradients are reduced under way"; }
  void all_gather(Tensor, Tensor, const std::vector<int64_t>&) override {}  // the weights
  void reduce_scatter(Tensor, Tensor, const std::vector<int64_t>&) override { ADD_FAILURE() << "the same"; }
  void broadcast(Tensor, int) override {}
  std::unique_ptr<Communicator::Transfer> start_all_reduces(const std::vector<Tensor>& tensors, Reduction) override {
    Started& one = start();
    for (const Tensor& x : tensors) one.tensors.push_back(x.raw());
    return std::make_unique<Recorded>(*this);
  }
  std::unique_ptr<Communicator::Transfer> start_reduce_scatters(
      const std::vector<Communicator::ReduceScatter>& parts) override {
    Started& one = start();
    for (const auto& part : parts) one.tensors.push_back(part.x.raw());
    return std::make_unique<Recorded>(*this);
  }
  std::unique_ptr<Communicator::Transfer> start_all_gather(Tensor, Tensor, const std::vector<int64_t>&) override {
    return Communicator::finished();
  }
  std::unique_ptr<Communicator::Transfer> start_exchange(Tensor, int, Tensor, int) override {
    return Communicator::finished();
  }

 private:
  struct Recorded : Communicator::Transfer {
    explicit Recorded(RecordingTransport& transport) : owner(transport), index(transport.started_.size() - 1) {}
    void wait() override { owner.started_[index].end = owner.now(); }
    RecordingTransport& owner;
    size_t index;
  };
  Started& start() { return started_.emplace_back(Started{{}, now(), -1}); }
  int64_t now() const { return backend_.counts().launches + backend_.counts().products; }

  const CountingBackend& backend_;
  std::vector<Started>& started_;
};

struct Recording {
  std::vector<Started> started;
  std::vector<int64_t> backward_lengths;  // start of each reduction minus the previous start: a layer's backward pass
  int64_t before_step = 0, after_step = 0;
};

constexpr int64_t kLayers = 4;

// One step on rank 0 of two data ranks.
Recording record(int zero, int64_t micro_steps, bool tied) {
  const ModelConfig model = geometry(32, 16, 24, kLayers, 2, 2, 8, tied);
  const PlannedRun run = run_of({2, 1, 1}, 16, zero, Recompute::kSelective);
  Recording recording;
  CountingBackend backend;
  ProcessGrid grid = planned_grid(run.grid, 0, 1);
  for (auto* axis : {&grid.world, &grid.dp, &grid.cp, &grid.tp, &grid.dp_cp, &grid.kv_replicas})
    *axis = std::make_unique<NoOpCommunicator>((*axis)->name(), (*axis)->rank(), (*axis)->size());
  carry_device_tensors(grid, backend, [&](Backend&, Communicator&) {
    return std::make_unique<RecordingTransport>(backend, recording.started);
  });
  Network network(backend, grid, model, run.network);
  HostBatch tokens(1, 16);
  for (size_t i = 0; i < 16; ++i) tokens.first[i] = 0, tokens.target[i] = 0, tokens.target_weight[i] = 1;
  const MicroBatch batch = tokens.view();
  accumulate_gradients(network, grid, micro_steps, [&](int64_t) -> const MicroBatch& { return batch; });
  const auto now = [&] { return backend.counts().launches + backend.counts().products; };
  recording.before_step = now();
  network.optimizer().step(1, 1, .9);
  recording.after_step = now();

  // The tensors that each reduction should have: head and last norm, then the layers from last to first, then the
  // embedding.
  Parameters& parameters = network.parameters();
  std::vector<std::vector<const void*>> expected;
  expected.push_back({parameters.norm.gradient.raw()});
  if (!tied) expected.back().push_back(parameters.lm_head.gradient.raw());
  for (int64_t layer = kLayers - 1; layer >= 0; --layer) {
    expected.emplace_back();
    parameters.layers[static_cast<size_t>(layer)].for_each(
        [&](Parameter& parameter) { expected.back().push_back(parameter.gradient.raw()); });
  }
  expected.push_back({parameters.embedding.gradient.raw()});
  const size_t passes = zero == 2 ? static_cast<size_t>(micro_steps) : 1;
  EXPECT_EQ(recording.started.size(), passes * expected.size());
  for (size_t i = 0; i < recording.started.size(); ++i)
    EXPECT_EQ(recording.started[i].tensors, expected[i % expected.size()]) << "reduction " << i;
  return recording;
}

// Every layer's reduction except the last one's starts before the next layer's backward pass, and is not waited for
// before that pass has ended.
TEST(GradientOverlap, ALayersReductionIsCalledBeforeTheNextLayersBackwardPass) {
  for (const int zero : {0, 1, 2})
    for (const int64_t micro_steps : {1, 2})
      for (const bool tied : {false, true}) {
        SCOPED_TRACE(fmt::format("ZeRO {}, {} micro-steps, {}", zero, micro_steps, tied ? "tied" : "untied"));
        const Recording recording = record(zero, micro_steps, tied);
        const std::vector<Started>& started = recording.started;
        const size_t of_pass = kLayers + 2;
        for (size_t pass = 0; pass < started.size(); pass += of_pass) {
          const bool last = pass + of_pass == started.size();
          for (size_t i = pass; i < pass + of_pass - 2; ++i) {
            const int64_t backward = started[i + 1].begin - started[i].begin;
            EXPECT_GT(backward, 15) << "kernels of a layer's backward pass between two reductions";
            EXPECT_GE(started[i].end, started[i + 1].begin) << "waited for when the next layer is done, or later";
            if (zero != 2) {
              EXPECT_EQ(started[i].end, recording.before_step) << "all that is waited for is waited for in step()";
            } else {
              // The layer after the next one reuses its memory.
              EXPECT_LE(started[i].end, started[i + 1].begin + 2 * static_cast<int64_t>(started[i].tensors.size()));
            }
          }
          EXPECT_GE(started[pass + of_pass - 1].end, started[pass + of_pass - 1].begin);
          if (last) {
            EXPECT_GE(started.back().end, recording.before_step);
          }
        }
        EXPECT_GT(recording.after_step, recording.before_step);
      }
}

}  // namespace
}  // namespace carillon::testing
