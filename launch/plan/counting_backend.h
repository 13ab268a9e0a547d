// A backend that computes nothing and counts what it is asked for: ops by name, what the CUDA backend would make of
// them (kernels, products, bytes copied, scratch), and for a StepRecord their work in its order. Its memory is real
// where it is written (what is uploaded can be downloaded again) and costs nothing elsewhere, so that the network of a
// planned rank can be built on it, 80 GB and more, and run through a step by the very code that runs it elsewhere.
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

// Calls of an op of one shape: what they compute, and what they read and write in all.
struct OpWork {
  int64_t calls = 0;
  double flop = 0, bytes = 0;
};

struct DeviceCounts {
  std::map<std::string, int64_t> ops;  // calls by the name of the op, elementwise ones included
  // By op; products by shape, "matmul 16384 x 4096 x 6144" (rows, summed over, columns), attention by engine, rows and
  // keys, "attention_forward cudnn 16384 x 8192".
  std::map<std::string, OpWork> work;
  int64_t launches = 0;  // kernels
  int64_t products = 0;  // by cuBLASLt
  int64_t allocations = 0;
  int64_t to_device_bytes = 0, to_host_bytes = 0;  // copied; what waiting brings back (kWaitBytes) included
  size_t scratch_bytes = 0;                        // the most that an op needs at once; not what is kept from the start

  int64_t calls() const;  // of all ops
  void add(const DeviceCounts& other);
};

class CountingBackend : public ForwardingBackend {
 public:
  // CudaBackend::wait() downloads the word in which kernels say that a position was beyond the table.
  static constexpr int64_t kWaitBytes = 4;

  // fused_attention: whole pieces go to cuDNN's attention, as in runtime/cuda/attention/attention_fused.cpp.
  explicit CountingBackend(bool fused_attention = false)
      : ForwardingBackend(nullptr), fused_attention_(fused_attention) {}

  DeviceCounts counts() const;
  void reset() { counts_ = {}, ops_ = {}; }

  // A new micro-step of a step that is recorded; what the recorder is told beside ops comes from communicators.
  void begin_micro_step();
  StepRecorder& recorder() { return recorder_; }

  DeviceDescription describe() const override { return {.name = "counting"}; }
  Buffer allocate(size_t bytes) override;       // error 74 where there are no addresses left
  Buffer allocate_host(size_t bytes) override;  // the same: addresses, no memory
  void upload(Tensor device, Tensor host) override;
  void download(Tensor host, Tensor device) override;
  void synchronize() override { wait(); }
  void* queue() override { return nullptr; }
  bool unified() const override { return false; }
  DeviceMemory memory() override { return {}; }
  bool holds(const void* pointer) const override;
  // Counted, not made: nothing on a device is worth carrying.
  std::unique_ptr<Copy> start_upload(Tensor device, Tensor host) override;
  std::unique_ptr<Copy> start_download(Tensor host, Tensor device) override;

 private:
  // Counts the call. sum_of_squares gives 1 of whatever is there: a finite norm.
  void around(OpCall& call, const std::function<void()>& run) override;
  // The kernels that runtime/cuda launches for it, and what else it takes.
  int64_t kernels(OpCall& call);
  // Its work, for the record.
  void record(const OpCall& call);
  void record_product(const OpCall& call);
  void record_attention(const OpCall& call);
  // Of a call of attention, what goes to one engine or the other: at once, and in a backward pass.
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
  // Pairs of query and key that see each other, over the batch.
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
  std::map<const char*, size_t> buffers_;  // of the device: address, bytes
};

}  // namespace carillon
