// Compiled once for each variant of the kernels: -Dcuda=cuda_kName renames their namespace,
// -DCARILLON_REDUCTIONS=reductions_kName this function.
#include "tests/runtime/cuda_reductions.h"

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "runtime/cuda/ops/kernels.h"

namespace carillon::testing {
namespace {

using namespace cuda;

// A vector on the device, with values from a small generator; float unless T is said.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(size_t count, uint64_t seed = 0) : host_(count) {
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (T& value : host_) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      value = seed == 0 ? T(0) : static_cast<T>(static_cast<double>(state >> 40) / (1 << 23) - 1);
    }
    send();
  }
  explicit OnDevice(std::vector<T> values) : host_(std::move(values)) { send(); }
  ~OnDevice() { cudaFree(device_); }
  OnDevice(const OnDevice&) = delete;
  T* get() const { return static_cast<T*>(device_); }
  std::vector<double> read() {
    cudaMemcpy(host_.data(), device_, host_.size() * sizeof(T), cudaMemcpyDeviceToHost);
    return {host_.begin(), host_.end()};
  }

 private:
  void send() {
    cudaMalloc(&device_, host_.size() * sizeof(T));
    cudaMemcpy(device_, host_.data(), host_.size() * sizeof(T), cudaMemcpyHostToDevice);
  }
  std::vector<T> host_;
  void* device_ = nullptr;
};

}  // namespace

Reductions CARILLON_REDUCTIONS() {
  Reductions results;
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  {
    OnDevice<float> x(40000, 1);
    OnDevice<double> sums(16);
    const Vector tensors[] = {{x.get(), 40000}, {x.get() + 1, 700}, {x.get(), 32768}};
    launch_sums_of_squares(sums.get(), sums.get() + 3, tensors, 3, Type::kFloat32, stream);
    cudaStreamSynchronize(stream);
    const std::vector<double> all = sums.read();
    results["sums of squares"] = {all.begin(), all.begin() + 3};
  }
  {
    OnDevice<float> dy(700 * 40, 2), dbias(40), partial(512 * 40);
    launch_bias_backward({Type::kFloat32, 700, 40}, dbias.get(), {dy.get(), 40}, partial.get(), stream);
    cudaStreamSynchronize(stream);
    results["bias"] = dbias.read();
  }
  {
    constexpr int64_t kRows = 1100, kChannels = 1040;  // several rows a run, a block a row
    OnDevice<float> x(kRows * kChannels, 3), dy(kRows * kChannels, 4), dx(kRows * kChannels), weight(kChannels, 5),
        rstd(std::vector<float>(kRows, 0.5f)), dweight(kChannels), partial(512 * kChannels);
    const auto heads = [](float* data) { return Heads{data, kChannels, 0}; };
    launch_rmsnorm_backward({Type::kFloat32, kRows, 1, kChannels, weight.get()}, heads(dx.get()), {}, heads(dy.get()),
                            heads(x.get()), {rstd.get(), 1, 0}, false, partial.get(), stream);
    const Runs sums{dweight.get(), partial.get(), row_runs(kRows), kChannels};
    launch_add_runs(&sums, 1, Type::kFloat32, stream);
    cudaStreamSynchronize(stream);
    results["norm"] = dx.read();
  }
  {
    constexpr int64_t kRows = 3, kColumns = 5000;
    OnDevice<float> logits(kRows * kColumns, 6), maximum(kRows), sums(2 * kRows), loss(kRows),
        weight(std::vector<float>(kRows, 1.0f));
    OnDevice<int64_t> target(std::vector<int64_t>{0, 4999, 17});
    const CrossEntropy args{Type::kFloat32, kRows,      kColumns,           0,           {logits.get(), kColumns},
                            maximum.get(),  sums.get(), sums.get() + kRows, target.get()};
    launch_cross_entropy_maximum(args, stream);
    launch_cross_entropy_sums(args, stream);
    launch_cross_entropy_finish(args, loss.get(), weight.get(), {logits.get(), 2 * kColumns}, Type::kBFloat16, stream);
    cudaStreamSynchronize(stream);
    results["maximum"] = maximum.read();
    results["loss"] = loss.read();
    results["gradient"] = logits.read();  // pairs of bfloat16, and what is left of the logits after them
  }
  {
    constexpr int64_t kRows = 1500, kChannels = 4;
    std::vector<int64_t> id(kRows);
    for (int64_t n = 0; n < kRows; ++n) id[static_cast<size_t>(n)] = n * 7919 % 64;
    OnDevice<int64_t> ids(id);
    OnDevice<float> dy(kRows * kChannels, 7), dtable(64 * kChannels);
    OnDevice<uint64_t> keys(static_cast<size_t>(embedding_keys(kRows)));
    OnDevice<float> partial(embedding_partials(kRows) * kChannels);
    launch_embedding_backward({Type::kFloat32, ids.get(), kRows, kChannels, 64, 0}, {dtable.get(), kChannels},
                              {dy.get(), kChannels}, keys.get(), partial.get(), stream);
    cudaStreamSynchronize(stream);
    results["embedding"] = dtable.read();
  }
  cudaStreamDestroy(stream);
  return results;
}

}  // namespace carillon::testing
