// The backend for NVIDIA GPUs: checks shapes, and queues kernels (kernels.h, attention_kernels.h) and cuBLASLt's
// products on one stream, in the order of the calls. Ops return before they have run, and so do uploads of a few MiB
// (staged_uploads.h); larger uploads, download, sum_of_squares and synchronize wait. Copies started with start_upload
// and start_download run on two separate streams.
//
// Memory: the buffers of allocate(), and one scratch area that all ops share, since they run in order. It starts with
// kScratchBytes and grows only when a shape first needs more.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/cuda/attention/fused_attention.h"
#include "runtime/cuda/ops/kernels.h"
#include "runtime/cuda/ops/launch_sizes.h"
#include "runtime/cuda/staged_uploads.h"

namespace carillon {

class CudaBackend : public Backend {
 public:
  explicit CudaBackend(const BackendOptions& options);
  ~CudaBackend() override;

  DeviceDescription describe() const override;
  Buffer allocate(size_t bytes) override;
  void upload(Tensor device, Tensor host) override;
  void download(Tensor host, Tensor device) override;
  void synchronize() override;
  void* queue() override { return stream_; }
  bool unified() const override { return false; }
  DeviceMemory memory() override;
  bool holds(const void* pointer) const override;

  // Page-locked, because start_upload and start_download would wait for the copy with other host memory.
  Buffer allocate_host(size_t bytes) override;
  std::unique_ptr<Copy> start_upload(Tensor device, Tensor host) override;
  std::unique_ptr<Copy> start_download(Tensor host, Tensor device) override;

  // The kernel of rotate() detects a position beyond the table; the next call that waits throws InternalError.
  CARILLON_OPS(CARILLON_DECLARE_OP)

 private:
  // Returns the stream of the ops, and makes the backend's device current for this thread (ranks may be threads).
  cudaStream_t on_device() const;
  // Returns at least this many bytes for the op that is launched next.
  void* scratch(size_t bytes);
  void* open_norm(size_t bytes);
  void wait();
  enum class Direction { kToDevice, kToHost };
  void transfer(Tensor device, Tensor host, Direction direction);
  class StreamCopy;
  std::unique_ptr<Copy> start_copy(Tensor to, Tensor from, cudaStream_t stream, cudaMemcpyKind kind);
  void destroy_streams();

  // Loads the second attention engine (attention_fused.cpp) and compares it with the native kernels. If that fails,
  // throws error 64 or 70 if the engine was requested by name; otherwise the native kernels are used.
  void start_fused_attention(const BackendOptions& options);
  // Why the engine must not be used; "" if its results agree with those of the native kernels.
  std::string compare_fused_attention(int64_t head_size, int64_t group);
  static constexpr int kComparedBlocks = 3;
  // The pieces of a call that go to one engine or the other.
  std::vector<MaskPiece> pieces(const AttentionMask& mask, const Tensor& q, const Tensor& k) const;
  bool fused_takes(std::initializer_list<Tensor> operands) const;
  // Compute one piece of a call, given by its parts of the tensors; return false if the engine does not take it. A
  // backward piece is at most a block of fused_edge().
  bool fused_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                     MaskPiece::Kind kind, double scale);
  bool fused_whole_forward(Tensor q, Tensor k, Tensor v, const AttentionMask& mask, MaskPiece::Kind kind, double scale,
                           const AttentionEnds& ends);
  // dq, dk and dv of type A are added to, of T are the whole gradients, turned back.
  bool fused_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout, Tensor out,
                      Tensor lse, const AttentionMask& mask, MaskPiece::Kind kind, double scale,
                      const cuda::AttentionTurn& turn = {});

  void padded_matmul(Tensor c, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b, bool accumulate);
  struct Products;  // cuBLASLt's handle, and its algorithms by shape (matmul.cpp)
  struct ProductsDeleter {
    void operator()(Products* products) const;
  };
  Products& products();

  int device_;
  bool tune_ = false;  // BackendOptions::tune
  DeviceDescription description_;
  // Bytes of allocate(); shared with its buffers, which may outlive this.
  std::shared_ptr<std::atomic<int64_t>> allocated_ = std::make_shared<std::atomic<int64_t>>(0);
  cudaStream_t stream_ = nullptr;
  cudaStream_t upload_stream_ = nullptr, download_stream_ = nullptr;
  std::vector<cudaEvent_t> events_;  // of destroyed copies, for reuse
  Buffer scratch_;
  Buffer beyond_;  // one int: see rotate
  // Arguments of the kernels of sum_of_squares and adamw, kept so that they allocate only once.
  std::vector<cuda::Vector> vectors_;
  std::vector<double> sums_;
  std::vector<cuda::AdamWOperands> operands_;
  // Norms' gradients by weights that are not finished, and their sums of runs.
  std::vector<cuda::Runs> open_norms_;
  Buffer open_sums_;
  size_t open_bytes_ = 0;  // of open_sums_, used
  cuda::Type open_type_ = cuda::Type::kFloat32;
  std::unique_ptr<Products, ProductsDeleter> products_;
  std::unique_ptr<cuda::FusedAttention> fused_;
  std::unique_ptr<cuda::StagedUploads> staged_;  // created by the first staged upload
  bool fused_required_ = false;                  // runtime.attention: cudnn
  bool fused_backward_ = false;                  // the engine has plans for backward passes too
  std::vector<int64_t> fused_head_sizes_;        // the head sizes that were compared
  int64_t fused_forward_calls_ = 0, fused_backward_calls_ = 0;
};

}  // namespace carillon
