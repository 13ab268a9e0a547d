// Matrix products through cuBLASLt. Per shape, its descriptions and the algorithm that its heuristics prefer are found
// once and kept. The workspace is the backend's scratch. With runtime.tune the first call of a shape times several
// algorithms on its own operands, and the fastest is kept (see fastest()).
//
// cuBLASLt is column-major and sees a row-major matrix as its transpose, so c = op(a)·op(b) is computed as
// cᵀ = op(b)ᵀ·op(a)ᵀ, with b as the first operand.
//
// Sums of float32 and bfloat16 products are float32 throughout (no TF32, so that float32 runs compare with the CPU's),
// and a bfloat16 result is rounded once: a long sum may only be split in ways that add in the compute type.
//
// Addresses count as aligned to at most 16 bytes, which is what kernels require. With more, the same product would get
// another algorithm, and other bits, depending on where its tensors lie. If cuBLASLt has no algorithm (bfloat16 rows
// not aligned to 16 bytes), the product uses copies padded to multiples of 8, and stderr says so once per shape.
#include <cublasLt.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <map>
#include <vector>

#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/device_backend.h"
#include "runtime/cuda/ops/operands.h"

namespace carillon {
namespace {

void check_cublas(cublasStatus_t status, const char* call, int line) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw InternalError(fmt::format("{}:{}: {}: {} ({})", __FILE__, line, call, cublasLtGetStatusName(status),
                                    cublasLtGetStatusString(status)));
}
#define CHECK_CUBLAS(call) check_cublas((call), #call, __LINE__)

cudaDataType_t cuda_type(DType dtype) {
  return dtype == DType::kFloat64 ? CUDA_R_64F : dtype == DType::kFloat32 ? CUDA_R_32F : CUDA_R_16BF;
}

// The distance between rows, as cuBLASLt accepts it: a single row may have any stride.
int64_t leading(const Tensor& x) {
  return x.size(0) == 1 ? std::max<int64_t>(x.size(1), 1)
                        : std::max<int64_t>(x.stride(0), std::max<int64_t>(x.size(1), 1));
}

// The largest power of two up to 16 that divides the address.
uint32_t alignment_of(const Tensor& x) {
  const auto address = reinterpret_cast<uintptr_t>(x.raw()) | 16;
  return static_cast<uint32_t>(address & (~address + 1));
}

// An owned handle of cuBLASLt.
template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
struct Destroy {
  using pointer = Handle;
  void operator()(Handle handle) const { kDestroy(handle); }
};
template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
using Owned = std::unique_ptr<Handle, Destroy<Handle, kDestroy>>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Description = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

Layout make_layout(const Tensor& x) {
  cublasLtMatrixLayout_t layout = nullptr;
  CHECK_CUBLAS(cublasLtMatrixLayoutCreate(&layout, cuda_type(x.dtype()), static_cast<uint64_t>(x.size(1)),
                                          static_cast<uint64_t>(x.size(0)), leading(x)));
  return Layout(layout);
}

constexpr int64_t kGranule = 8;

// How many algorithms of the heuristics are timed, and how often each after a first run that loads its kernel.
constexpr int kTuned = 8, kTimedRuns = 3;

// The number of the fastest of `count` algorithms on this stream, by the shortest of its runs; run(i) queues one and
// returns whether the library accepts it. If none is accepted, 0.
template <class Run>
size_t fastest(size_t count, cudaStream_t stream, const Run& run) {
  cudaEvent_t begin = nullptr, end = nullptr;
  CHECK_CUDA(cudaEventCreate(&begin));
  CHECK_CUDA(cudaEventCreate(&end));
  size_t best = 0;
  float shortest = std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < count; ++i) {
    bool accepted = run(i);
    for (int timed = 0; accepted && timed < kTimedRuns; ++timed) {
      CHECK_CUDA(cudaEventRecord(begin, stream));
      accepted = run(i);
      CHECK_CUDA(cudaEventRecord(end, stream));
      CHECK_CUDA(cudaEventSynchronize(end));
      float milliseconds = 0;
      CHECK_CUDA(cudaEventElapsedTime(&milliseconds, begin, end));
      if (accepted && milliseconds < shortest) shortest = milliseconds, best = i;
    }
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return best;
}

// The same for a product: run(result, i) writes it to `result`, memory like that of c. The timed runs write to c
// itself, or, if its former value is needed, to other memory; if there is none, 0.
template <class Run>
size_t fastest_for(const Tensor& c, bool keep, size_t count, cudaStream_t stream, const Run& run) {
  void* result = c.raw();
  const auto elements = static_cast<size_t>((c.size(0) - 1) * leading(c) + c.size(1));
  if (keep && cudaMalloc(&result, elements * size_of(c.dtype())) != cudaSuccess) {
    cudaGetLastError();
    std::fprintf(stderr, "carillon: runtime.tune has no memory for %s: the algorithm that cuBLASLt prefers is used\n",
                 describe(c).c_str());
    return 0;
  }
  const size_t best = fastest(count, stream, [&](size_t i) { return run(result, i); });
  if (keep) cudaFree(result);
  return best;
}

// Whether padding would change nothing: all dims and strides are multiples of 8 and all addresses of 16 bytes.
bool whole(const Tensor& c, const Tensor& a, const Tensor& b) {
  for (const Tensor* x : {&c, &a, &b})
    if (x->size(0) % kGranule != 0 || x->size(1) % kGranule != 0 || leading(*x) % kGranule != 0 ||
        alignment_of(*x) < 16)
      return false;
  return true;
}

}  // namespace

struct CudaBackend::Products {
  struct Made {
    Description description;
    Layout a, b, c;  // cuBLASLt's operands: its a is our b
    // Those found, best first; only the fastest once they were timed. None: use copies with padded dims.
    std::vector<cublasLtMatmulAlgo_t> algorithms;
  };
  using Key = std::vector<int64_t>;

  Owned<cublasLtHandle_t, cublasLtDestroy> handle;
  std::map<Key, Made> made;

  Products() {
    cublasLtHandle_t created = nullptr;
    CHECK_CUBLAS(cublasLtCreate(&created));
    handle.reset(created);
  }

  // Finds at most `wanted` algorithms.
  Made& find(const Tensor& c, const Tensor& a, const Tensor& b, bool ta, bool tb, bool accumulate, int wanted) {
    const Key key{static_cast<int64_t>(a.dtype()),
                  static_cast<int64_t>(c.dtype()),
                  c.size(0),
                  c.size(1),
                  a.size(ta ? 0 : 1),
                  leading(c),
                  leading(a),
                  leading(b),
                  ta,
                  tb,
                  accumulate,
                  alignment_of(c),
                  alignment_of(a),
                  alignment_of(b)};
    const auto found = made.find(key);
    if (found != made.end()) return found->second;

    const bool wide = a.dtype() == DType::kFloat64;
    cublasLtMatmulDesc_t description = nullptr;
    CHECK_CUBLAS(cublasLtMatmulDescCreate(&description, wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                          wide ? CUDA_R_64F : CUDA_R_32F));
    Made fresh{Description(description), make_layout(b), make_layout(a), make_layout(c), {}};
    const cublasOperation_t first = tb ? CUBLAS_OP_T : CUBLAS_OP_N, second = ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    CHECK_CUBLAS(cublasLtMatmulDescSetAttribute(description, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
    CHECK_CUBLAS(cublasLtMatmulDescSetAttribute(description, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));

    cublasLtMatmulPreference_t created = nullptr;
    CHECK_CUBLAS(cublasLtMatmulPreferenceCreate(&created));
    const Preference preference(created);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      CHECK_CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{cuda::kScratchBytes});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(b));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(a));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(c));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(c));
    std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(wanted));
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle.get(), description, fresh.a.get(), fresh.b.get(), fresh.c.get(),
                                       fresh.c.get(), preference.get(), wanted, results.data(), &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) {
      check_cublas(status, "cublasLtMatmulAlgoGetHeuristic", __LINE__);
      for (const auto& result : std::span(results).first(static_cast<size_t>(count)))
        if (result.state == CUBLAS_STATUS_SUCCESS) fresh.algorithms.push_back(result.algo);
    }
    if (fresh.algorithms.empty()) {
      CHECK(!whole(c, a, b), "cuBLASLt has no algorithm for a product", carillon::describe(c), carillon::describe(a),
            carillon::describe(b));
      std::fprintf(stderr,
                   "carillon: cuBLASLt has no algorithm for %s = %s times %s: computed on padded copies, which is slow "
                   "(sizes that are multiples of 8 avoid it)\n",
                   carillon::describe(c).c_str(), carillon::describe(a).c_str(), carillon::describe(b).c_str());
    }
    return made.emplace(key, std::move(fresh)).first->second;
  }
};

void CudaBackend::ProductsDeleter::operator()(Products* products) const { delete products; }
CudaBackend::Products& CudaBackend::products() {
  if (!products_) products_.reset(new Products);
  return *products_;
}

// The copies are in the scratch area after cuBLASLt's workspace. The padding is zero and adds nothing to the product.
void CudaBackend::padded_matmul(Tensor c, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b,
                                bool accumulate) {
  std::vector<size_t> places{size_t{cuda::kScratchBytes}};
  const auto padded_shape = [](const Tensor& x) {
    return std::vector<int64_t>{cuda::round_up(x.size(0), kGranule), cuda::round_up(x.size(1), kGranule)};
  };
  for (const Tensor& x : {c, a, b}) {
    const std::vector<int64_t> shape = padded_shape(x);
    const auto bytes = static_cast<size_t>(shape[0] * shape[1]) * size_of(x.dtype());
    places.push_back(places.back() + (bytes + 255) / 256 * 256);
  }
  char* base = static_cast<char*>(scratch(places.back()));
  size_t next = 0;
  const auto copy_of = [&](const Tensor& x, bool with_values) {
    const Tensor wide(base + places[next++], x.dtype(), padded_shape(x));
    fill(wide, 0);
    if (with_values) copy(wide.rows(0, x.size(0)).slice(1, 0, x.size(1)), x);
    return wide;
  };
  const Tensor wide_c = copy_of(c, accumulate), wide_a = copy_of(a, true), wide_b = copy_of(b, true);
  matmul(wide_c, wide_a, wide_b, transpose_a, transpose_b, accumulate);
  copy(c, wide_c.rows(0, c.size(0)).slice(1, 0, c.size(1)));
}

void CudaBackend::matmul(Tensor c, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b, bool accumulate) {
  CHECK(a.dtype() == b.dtype() && (c.dtype() == a.dtype() || c.dtype() == accumulate_type(a.dtype())),
        "matmul of other types", carillon::describe(c), carillon::describe(a), carillon::describe(b));
  for (const Tensor& x : {c, a, b}) cuda::matrix(x);
  const bool ta = transpose_a == Transpose::kYes, tb = transpose_b == Transpose::kYes;
  const int64_t inner = a.size(ta ? 0 : 1);
  CHECK(a.size(ta ? 1 : 0) == c.size(0) && b.size(tb ? 0 : 1) == c.size(1) && b.size(tb ? 1 : 0) == inner,
        "matmul shapes", carillon::describe(c), carillon::describe(a), carillon::describe(b));
  if (c.empty()) return;
  if (inner == 0) {
    if (!accumulate) fill(c, 0);
    return;
  }
  const cudaStream_t stream = on_device();
  Products& known = products();
  Products::Made& product = known.find(c, a, b, ta, tb, accumulate, tune_ ? kTuned : 1);
  if (product.algorithms.empty()) return padded_matmul(c, a, b, transpose_a, transpose_b, accumulate);
  void* workspace = scratch(size_t{cuda::kScratchBytes});
  const double one64 = 1, zero64 = 0;
  const float one32 = 1, zero32 = 0;
  const bool wide = a.dtype() == DType::kFloat64;
  const void* alpha = wide ? static_cast<const void*>(&one64) : &one32;
  const void* zero = wide ? static_cast<const void*>(&zero64) : &zero32;
  const auto multiply = [&](void* result, const cublasLtMatmulAlgo_t& algorithm) {
    return cublasLtMatmul(known.handle.get(), product.description.get(), alpha, b.raw(), product.a.get(), a.raw(),
                          product.b.get(), accumulate ? alpha : zero, c.raw(), product.c.get(), result, product.c.get(),
                          &algorithm, workspace, size_t{cuda::kScratchBytes}, stream);
  };
  if (const size_t count = product.algorithms.size(); count > 1) {
    const auto accepted = [&](void* result, size_t i) {
      return multiply(result, product.algorithms[i]) == CUBLAS_STATUS_SUCCESS;
    };
    product.algorithms = {product.algorithms[fastest_for(c, accumulate, count, stream, accepted)]};
  }
  CHECK_CUBLAS(multiply(c.raw(), product.algorithms.front()));
}

}  // namespace carillon
