// Ops on elements: what CudaBackend checks before elementwise.cu, sums.cu and adamw.cu.
#include <cmath>

#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/device_backend.h"
#include "runtime/cuda/operands.h"

namespace carillon {

cuda::Elementwise cuda::elementwise(Tensor y, Tensor a, Tensor b) {
  Elementwise result;
  const Tensor tensors[] = {y, a, b};
  Elementwise::Operand* operands[] = {&result.y, &result.a, &result.b};
  int64_t size[Tensor::kMaxRank], stride[3][Tensor::kMaxRank];
  int rank = 0;
  for (int dim = 0; dim < y.rank(); ++dim) {
    if (y.size(dim) == 1) continue;
    // Merge with the dim before where every tensor steps from the end of this one to its next.
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

double CudaBackend::sum_of_squares(Tensor x) {
  if (x.empty()) return 0;
  CHECK(x.packed(), "a packed tensor", carillon::describe(x));
  const int64_t partials = cuda::sum_of_squares_partials(x.count());
  auto* sums = static_cast<double*>(scratch(static_cast<size_t>(partials + 1) * sizeof(double)));
  CHECK_CUDA(cuda::launch_sum_of_squares(sums, sums + 1, x.raw(), cuda::type_of(x), x.count(), on_device()));
  double result = 0;
  CHECK_CUDA(cudaMemcpyAsync(&result, sums, sizeof result, cudaMemcpyDeviceToHost, stream_));
  wait();
  return result;
}

void CudaBackend::adamw(Tensor weight, Tensor master, Tensor exp_avg, Tensor exp_avg_sq, Tensor gradient,
                        const AdamWStep& step) {
  if (master.empty()) return;
  const DType wide = master.dtype();
  CHECK(wide == DType::kFloat64 || wide == DType::kFloat32, "masters are float64 or float32",
        carillon::describe(master));
  for (const Tensor& x : {exp_avg, exp_avg_sq, gradient})
    CHECK(x.count() == master.count(), "one shape", carillon::describe(x), carillon::describe(master));
  const bool other = weight && weight.raw() != master.raw();
  const bool in_pass = other && weight.packed() &&
                       (weight.dtype() == wide || (wide == DType::kFloat32 && weight.dtype() == DType::kBFloat16));
  if (other)
    CHECK(weight.count() == master.count(), "one shape", carillon::describe(weight), carillon::describe(master));
  const cuda::AdamW args{cuda::type_of(wide),
                         in_pass ? cuda::type_of(weight) : cuda::type_of(wide),
                         in_pass ? weight.raw() : nullptr,
                         cuda::packed(master, wide),
                         cuda::packed(exp_avg, wide),
                         cuda::packed(exp_avg_sq, wide),
                         cuda::packed(gradient, wide),
                         master.count(),
                         step.gradient_scale,
                         step.beta1,
                         step.beta2,
                         step.epsilon,
                         1 - step.learning_rate * step.weight_decay,
                         step.learning_rate / (1 - std::pow(step.beta1, static_cast<double>(step.step))),
                         std::sqrt(1 - std::pow(step.beta2, static_cast<double>(step.step)))};
  CHECK_CUDA(cuda::launch_adamw(args, on_device()));
  if (other && !in_pass) copy(weight, master);
}

}  // namespace carillon
