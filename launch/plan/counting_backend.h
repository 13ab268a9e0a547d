// A backend that computes nothing and counts what it is asked to do: ops by name, what the CUDA backend would make of
// them (kernels, products, bytes copied, scratch), and for a StepRecord their work in order. Its memory is real only
// where it is written (uploaded data can be downloaded again). So the network of a planned rank, of 80 GB and more, can
// be built on it and run through a step by the code that runs it elsewhere.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "launch/plan/step_record.h"
#include "runtime/forwarding_backend.h"

namespace carillon {

// Calls of an op of one shape: the total of what they compute, and of what they read and write.
struct OpWork {
  int64_t calls = 0;
  double flop = 0, bytes = 0;
};

struct DeviceCounts {
  std::map<std::string, int64_t> ops;  // calls by name of the op, elementwise ops included
  // Work by op. Products are named by shape, "matmul 16384 x 4096 x 6144" (rows, inner dimension, columns), attention
  // by engine, rows and keys, "attention_forward cudnn 16384 x 8192".
  std::map<std::string, OpWork> work;
  int64_t launches = 0;  // kernels
  int64_t products = 0;  // by cuBLASLt
  int64_t allocations = 0;
  int64_t to_device_bytes = 0, to_host_bytes = 0;  // copied; including what wait() downloads (kWaitBytes)
  size_t scratch_bytes = 0;  // the most that one op needs at once; not what is kept from the start

  int64_t calls() const;  // of all ops
  void add(const DeviceCounts& other);
};

class CountingBackend : public ForwardingBackend {
 public:
  // CudaBackend::wait() downloads the word in which kernels report a position beyond the table.
  static constexpr int64_t kWaitBytes = 4;

  // fused_attention: whole pieces use cuDNN's attention, as in runtime/cuda/attention/attention_fused.cpp.
  explicit CountingBackend(bool fused_attention = false)
      : ForwardingBackend(nullptr), fused_attention_(fused_attention) {}

  DeviceCounts counts() const;
  void reset() { counts_ = {}, ops_ = {}; }

  // Begins a new micro-step of a recorded step. Communicators report exchanges to the recorder themselves.
  void begin_micro_step();
  StepRecorder& recorder() { return recorder_; }

  DeviceDescription describe() const override { return {.name = "counting"}; }
  Buffer allocate(size_t bytes) override;       // error 74 if no addresses are left
  Buffer allocate_host(size_t bytes) override;  // likewise: addresses without memory
  void upload(Tensor device, Tensor host) override;
  void download(Tensor host, Tensor device) override;
  void synchronize() override { wait(); }
  void* queue() override { return nullptr; }
  bool unified() const override { return false; }
  DeviceMemory memory() override { return {}; }
  bool holds(const void* pointer) const override;
  // Counted without effect: no data on the device is worth copying.
  std::unique_ptr<Copy> start_upload(Tensor device, Tensor host) override;
  std::unique_ptr<Copy> start_download(Tensor host, Tensor device) override;

 private:
  // Counts the call. sum_of_squares returns 1 for any input, so that norms are finite.
  void around(OpCall& call, const std::function<void()>& run) override;
  // Returns the kernels that runtime/cuda launches for the call, and counts its other needs.
  int64_t kernels(OpCall& call);
  // Records the call's work.
  void record(const OpCall& call);
  void record_product(const OpCall& call);
  void record_attention(const OpCall& call);
  // The pieces of an attention call that go to one engine or the other: in general, and in a backward pass.
  std::vector<MaskPiece> pieces(const OpCall& call) const;
  std::vector<MaskPiece> blocks(const OpCall& call) const;
  // Whether the only one of them takes the call whole: with its ends where it has any, and without a state or
  // accumulators by cuDNN.
  static bool alone(const OpCall& call, const std::vector<MaskPiece>& pieces);
  bool joins_ends(const OpCall& call, const std::vector<MaskPiece>& pieces) const;
  int64_t forward_kernels(const OpCall& call);
  int64_t backward_kernels(const OpCall& call);
  // Bytes it reads and writes, where that is what its time goes to.
  double moved_bytes(const OpCall& call);
  void count_work(const OpCall& call);
  // Returns the number of query-key pairs that see each other, over the batch.
  int64_t visible_pairs(const OpCall& call);
  std::unique_ptr<Copy> start_copy(Exchange exchange, Tensor device);
  void wait() { counts_.to_host_bytes += kWaitBytes; }
  void scratch(int64_t bytes);

  bool fused_attention_;
  DeviceCounts counts_;
  std::array<int64_t, kOpKinds> ops_{};
  StepRecorder recorder_;
  const void* logits_gradient_ = nullptr;  // of the loss under way
  bool attention_begun_ = false;           // no block was folded in yet
  int64_t open_norms_ = 0;                 // until finish_norms()
  // Masks recur from layer to layer: query_index, first, key_index, keys -> pairs. Until something is uploaded.
  std::map<std::tuple<const void*, const void*, const void*, int64_t>, int64_t> pairs_;
  std::map<const char*, size_t> buffers_;  // device buffers: address, bytes
};

}  // namespace carillon
