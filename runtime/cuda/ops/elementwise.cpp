// CudaBackend's ops on elements: checks the tensors and launches the kernels of elementwise.cu, sums.cu and adamw.cu.
#include <cmath>

#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/device_backend.h"
#include "runtime/cuda/ops/operands.h"

namespace carillon {

cuda::Elementwise cuda::elementwise(Tensor y, Tensor a, Tensor b) {
  Elementwise result;
  const Tensor tensors[] = {y, a, b};
  Elementwise::Operand* operands[] = {&result.y, &result.a, &result.b};
  int64_t size[Tensor::kMaxRank], stride[3][Tensor::kMaxRank];
  int rank = 0;
  for (int dim = 0; dim < y.rank(); ++dim) {
    if (y.size(dim) == 1) continue;
    // Merge this dim with the previous one if in every tensor the two are contiguous.
    bool merges = rank > 0;
    for (int t = 0; t < 3; ++t)
      if (tensors[t]) merges = merges && stride[t][rank - 1] == tensors[t].stride(dim) * y.size(dim);
    if (!merges) size[rank++] = 1;
    size[rank - 1] *= y.size(dim);
    for (int t = 0; t < 3; ++t)
      if (tensors[t]) stride[t][rank - 1] = tensors[t].stride(dim);
  }
  result.length = rank == 0 ? 1 : size[rank - 1];
  result.outer = rank == 0 ? 0 : rank - 1;
  for (int dim = 0; dim < result.outer; ++dim) {
    result.size[dim] = size[dim];
    result.rows *= size[dim];
  }
  for (int t = 0; t < 3; ++t) {
    if (!tensors[t]) continue;
    CHECK(tensors[t].shape() == y.shape(), "shapes differ", describe(tensors[t]), describe(y));
    operands[t]->data = tensors[t].raw();
    operands[t]->type = type_of(tensors[t]);
    operands[t]->step = rank == 0 ? 1 : stride[t][rank - 1];
    for (int dim = 0; dim < result.outer; ++dim) operands[t]->stride[dim] = stride[t][dim];
  }
  return result;
}

void CudaBackend::fill(Tensor x, double value) {
  cuda::Elementwise args = cuda::elementwise(x);
  args.factor = value;
  CHECK_CUDA(cuda::launch_fill(args, on_device()));
}

void CudaBackend::copy(Tensor y, Tensor x) {
  CHECK(y.dtype() == x.dtype() || (y.dtype() <= DType::kBFloat16 && x.dtype() <= DType::kBFloat16),
        "copies convert between floating-point types only", carillon::describe(y), carillon::describe(x));
  CHECK_CUDA(cuda::launch_copy(cuda::elementwise(y, x), on_device()));
}

void CudaBackend::add(Tensor y, Tensor x) { CHECK_CUDA(cuda::launch_add(cuda::elementwise(y, x), on_device())); }

void CudaBackend::sum(Tensor y, Tensor a, Tensor b) {
  CHECK(y.dtype() == a.dtype() && y.dtype() == b.dtype(), "a sum of tensors of one type", carillon::describe(y),
        carillon::describe(a), carillon::describe(b));
  CHECK_CUDA(cuda::launch_sum(cuda::elementwise(y, a, b), on_device()));
}

void CudaBackend::scale(Tensor x, double factor) {
  cuda::Elementwise args = cuda::elementwise(x);
  args.factor = factor;
  CHECK_CUDA(cuda::launch_scale(args, on_device()));
}

void CudaBackend::soft_cap(Tensor x, double cap) {
  cuda::Elementwise args = cuda::elementwise(x);
  args.factor = cap;
  CHECK_CUDA(cuda::launch_soft_cap(args, on_device()));
}

double CudaBackend::sum_of_squares(std::span<const Tensor> tensors) {
  vectors_.clear();
  int64_t partials = 0;
  for (const Tensor& x : tensors) {
    if (x.empty()) continue;
    CHECK(x.packed() && x.dtype() == tensors[0].dtype(), "packed tensors of one type", carillon::describe(x));
    vectors_.push_back({x.raw(), x.count()});
    partials += cuda::sum_of_squares_partials(x.count());
  }
  if (vectors_.empty()) return 0;
  const auto count = static_cast<int64_t>(vectors_.size());
  auto* sums = static_cast<double*>(scratch(static_cast<size_t>(partials + count) * sizeof(double)));
  CHECK_CUDA(
      cuda::launch_sums_of_squares(sums, sums + count, vectors_.data(), count, cuda::type_of(tensors[0]), on_device()));
  sums_.resize(vectors_.size());
  CHECK_CUDA(cudaMemcpyAsync(sums_.data(), sums, sums_.size() * sizeof(double), cudaMemcpyDeviceToHost, stream_));
  wait();
  double result = 0;
  for (const double sum : sums_) result += sum;
  return result;
}

void CudaBackend::adamw(std::span<const AdamWTensors> tensors, const AdamWStep& step) {
  operands_.clear();
  DType wide = DType::kFloat32, narrow = DType::kFloat32;
  bool weights = false;
  for (const AdamWTensors& x : tensors) {
    const Tensor& master = x.master;
    if (master.empty()) continue;
    const bool other = x.weight && x.weight.raw() != master.raw();
    if (operands_.empty()) {
      wide = narrow = master.dtype();
      CHECK(wide == DType::kFloat64 || wide == DType::kFloat32, "masters are float64 or float32",
            carillon::describe(master));
    }
    for (const Tensor& state : {x.exp_avg, x.exp_avg_sq, x.gradient})
      CHECK(state.count() == master.count(), "one shape", carillon::describe(state), carillon::describe(master));
    if (other) {
      if (!weights) narrow = x.weight.dtype();
      weights = true;
      CHECK(x.weight.count() == master.count() && (narrow == wide || accumulate_type(narrow) == wide),
            "a weight of its master's shape, of T", carillon::describe(x.weight), carillon::describe(master));
    }
    operands_.push_back({other ? cuda::packed(x.weight, narrow) : nullptr, cuda::packed(master, wide),
                         cuda::packed(x.exp_avg, wide), cuda::packed(x.exp_avg_sq, wide),
                         cuda::packed(x.gradient, wide), master.count(), x.decays});
  }
  const cuda::AdamW numbers{step.gradient_scale,
                            step.beta1,
                            step.beta2,
                            step.epsilon,
                            1 - step.learning_rate * step.weight_decay,
                            step.learning_rate / (1 - std::pow(step.beta1, static_cast<double>(step.step))),
                            std::sqrt(1 - std::pow(step.beta2, static_cast<double>(step.step)))};
  CHECK_CUDA(cuda::launch_adamw(numbers, cuda::type_of(wide), cuda::type_of(narrow), operands_.data(),
                                static_cast<int64_t>(operands_.size()), on_device()));
}

}  // namespace carillon
