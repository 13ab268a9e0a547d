// A backend that computes nothing and counts what it is asked for: ops by name, and what the CUDA backend would make of
// them (kernels, products, bytes copied, scratch). Its memory is real where it is written (what is uploaded can be
// downloaded again) and costs nothing elsewhere, so that the network of a planned rank can be built on it, 80 GB and
// more, and run through a step by the very code that runs it elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "runtime/backend.h"

namespace carillon {

struct DeviceCounts {
  std::map<std::string, int64_t> ops;  // calls by the name of the op, elementwise ones included
  int64_t launches = 0;                // kernels
  int64_t products = 0;                // by cuBLASLt
  int64_t allocations = 0;
  int64_t to_device_bytes = 0, to_host_bytes = 0;  // copied; what waiting brings back (kWaitBytes) included
  size_t scratch_bytes = 0;                        // the most that an op wants at once; not what is kept from the start

  int64_t calls() const;  // of all ops
  void add(const DeviceCounts& other);
};

class CountingBackend : public Backend {
 public:
  // CudaBackend::wait() downloads the word in which kernels say that a position was beyond the table.
  static constexpr int64_t kWaitBytes = 4;

  // fused_attention: whole blocks go to cuDNN's attention, as in runtime/cuda/attention/attention_fused.cpp.
  explicit CountingBackend(bool fused_attention = false) : fused_attention_(fused_attention) {}

  const DeviceCounts& counts() const { return counts_; }
  void reset() { counts_ = {}; }

  DeviceDescription describe() const override { return {.name = "counting"}; }
  Buffer allocate(size_t bytes) override;       // error 74 where there are no addresses left
  Buffer allocate_host(size_t bytes) override;  // the same: addresses, no memory
  void upload(Tensor device, Tensor host) override;
  void download(Tensor host, Tensor device) override;
  void synchronize() override { wait(); }
  bool unified() const override { return false; }
  bool holds(const void* pointer) const override;
  // Counted, not made: nothing on a device is worth carrying.
  std::unique_ptr<Copy> start_upload(Tensor device, Tensor host) override;
  std::unique_ptr<Copy> start_download(Tensor host, Tensor device) override;

  void fill(Tensor x, double value) override;
  void copy(Tensor y, Tensor x) override;
  void add(Tensor y, Tensor x) override;
  void sum(Tensor y, Tensor a, Tensor b) override;
  void scale(Tensor x, double factor) override;
  double sum_of_squares(std::span<const Tensor> tensors) override;  // 1 of whatever is there: a finite norm
  void matmul(Tensor c, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b, bool accumulate) override;
  void add_bias(Tensor y, Tensor bias) override;
  void bias_backward(Tensor dbias, Tensor dy) override;
  void embedding_forward(Tensor y, Tensor ids, Tensor table, int64_t first_row) override;
  void embedding_backward(Tensor dtable, Tensor ids, Tensor dy, int64_t first_row) override;
  void rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, double epsilon) override;
  void rmsnorm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight, Tensor rstd,
                        bool accumulate) override;
  void rotate(Tensor x, Tensor position, Tensor cosine, Tensor sine, bool inverse) override;
  void swiglu_forward(Tensor y, Tensor gate, Tensor up) override;
  void swiglu_backward(Tensor dgate, Tensor dup, Tensor y, Tensor dy, Tensor gate, Tensor up) override;
  void attention_begin(const AttentionState& state) override;
  void attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                         double scale) override;
  void attention_finish(Tensor out, Tensor lse, const AttentionState& state) override;
  void attention_delta(Tensor delta, Tensor dout, Tensor out) override;
  void attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout, Tensor lse,
                          Tensor delta, const AttentionMask& mask, double scale) override;
  void attention_backward_whole(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout, Tensor out,
                                Tensor lse, Tensor delta, const AttentionMask& mask, double scale) override;
  void cross_entropy_maximum(Tensor maximum, Tensor logits) override;
  void cross_entropy_sums(Tensor sums, Tensor logits, Tensor maximum, Tensor target, int64_t first_column) override;
  void cross_entropy_finish(Tensor loss, Tensor gradient, Tensor logits, Tensor maximum, Tensor sums, Tensor target,
                            Tensor weight, int64_t first_column) override;
  void adamw(std::span<const AdamWTensors> tensors, const AdamWStep& step) override;

 private:
  // One call of `op`, which puts so many kernels on the device; none where `over` is empty.
  void count(const char* op, int64_t kernels);
  void count(const char* op, const Tensor& over, int64_t kernels = 1);
  void wait() { counts_.to_host_bytes += kWaitBytes; }
  void scratch(int64_t bytes);

  bool fused_attention_;
  DeviceCounts counts_;
  std::map<const char*, size_t> buffers_;  // of the device: address, bytes
};

}  // namespace carillon
