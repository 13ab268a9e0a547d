// Tests the emulated cuBLASLt against plain loops.
#include "cublasLt.h"

#include <cmath>

#include "cuda_bf16.h"
#include "emulation_test.h"

namespace carillon_emulation {
namespace {

template <class T>
T make(double value) {
  if constexpr (sizeof(T) == 2)
    return __float2bfloat16_rn(static_cast<float>(value));
  else
    return static_cast<T>(value);
}
template <class T>
double value_of(T x) {
  if constexpr (sizeof(T) == 2)
    return static_cast<double>(__bfloat162float(x));
  else
    return static_cast<double>(x);
}
template <class T>
constexpr cudaDataType kType = sizeof(T) == 8   ? CUDA_R_64F
                               : sizeof(T) == 4 ? CUDA_R_32F
                                                : CUDA_R_16BF;

// Small integers, so that sums are exact in float32. Odd sizes, with gaps between columns.
template <class T>
std::vector<T> matrix(std::int64_t leading, std::int64_t columns, int seed) {
  std::vector<T> x(static_cast<std::size_t>(leading * columns));
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = make<T>(static_cast<double>((i * 7 + static_cast<std::size_t>(seed)) % 11) - 5);
  return x;
}

constexpr std::int64_t kM = 13, kN = 7, kK = 19;

struct Problem {
  bool ta = false, tb = false, bias = false;
  double alpha = 1, beta = 0;
  std::uint32_t promised_alignment = 2;
};

template <class In, class Out>
cublasStatus_t multiply(const Problem& p, const In* a, const In* b, Out* d, const Out* bias, void* workspace) {
  constexpr bool kWide = sizeof(In) == 8;
  cublasLtHandle_t handle;
  cublasLtMatmulDesc_t description;
  cublasLtMatrixLayout_t la, lb, ld;
  cublasLtMatmulPreference_t preference;
  EXPECT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
  cublasLtMatmulDescCreate(&description, kWide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                           kWide ? CUDA_R_64F : CUDA_R_32F);
  const auto set = [&](cublasLtMatmulDescAttributes_t which, auto value) {
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(description, which, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, p.ta ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, p.tb ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (p.bias) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias));
  }
  cublasLtMatrixLayoutCreate(&la, kType<In>, p.ta ? kK : kM, p.ta ? kM : kK, 24);
  cublasLtMatrixLayoutCreate(&lb, kType<In>, p.tb ? kN : kK, p.tb ? kK : kN, 20);
  cublasLtMatrixLayoutCreate(&ld, kType<Out>, kM, kN, 15);
  cublasLtMatmulPreferenceCreate(&preference);
  const std::uint64_t workspace_bytes = 1024;
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes, 8);
  for (int i = 0; i < 4; ++i)
    cublasLtMatmulPreferenceSetAttribute(
        preference, static_cast<cublasLtMatmulPreferenceAttributes_t>(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i),
        &p.promised_alignment, 4);
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  EXPECT_EQ(cublasLtMatmulAlgoGetHeuristic(handle, description, la, lb, ld, ld, preference, 1, &best, &found),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(found, 1);
  const float alpha32 = static_cast<float>(p.alpha), beta32 = static_cast<float>(p.beta);
  const cublasStatus_t status =
      cublasLtMatmul(handle, description, kWide ? static_cast<const void*>(&p.alpha) : &alpha32, a, la, b, lb,
                     kWide ? static_cast<const void*>(&p.beta) : &beta32, d, ld, d, ld, &best.algo, workspace,
                     workspace_bytes, nullptr);
  cublasLtMatmulPreferenceDestroy(preference);
  for (cublasLtMatrixLayout_t layout : {la, lb, ld}) cublasLtMatrixLayoutDestroy(layout);
  cublasLtMatmulDescDestroy(description);
  cublasLtDestroy(handle);
  return status;
}

template <class In, class Out>
void compare(const Problem& p) {
  const std::vector<In> a = matrix<In>(24, p.ta ? kM : kK, 1), b = matrix<In>(20, p.tb ? kK : kN, 2);
  const std::vector<Out> bias = matrix<Out>(kM, 1, 4);
  std::vector<Out> d = matrix<Out>(15, kN, 3);
  if (p.beta == 0) d[5] = make<Out>(NAN);  // not read
  Out* device = on_device(d);
  ASSERT_EQ(
      (multiply<In, Out>(p, on_device(a), on_device(b), device, on_device(bias), on_device(std::vector<char>(1024)))),
      CUBLAS_STATUS_SUCCESS);
  const std::vector<Out> got = to_host(device, d.size());
  for (std::int64_t column = 0; column < kN; ++column)
    for (std::int64_t row = 0; row < 15; ++row) {
      const std::size_t at = static_cast<std::size_t>(column * 15 + row);
      if (row >= kM) {  // gaps between columns must not be written
        ASSERT_EQ(value_of(got[at]), value_of(d[at]));
        continue;
      }
      double sum = 0;
      for (std::int64_t k = 0; k < kK; ++k)
        sum += value_of(a[static_cast<std::size_t>(p.ta ? row * 24 + k : k * 24 + row)]) *
               value_of(b[static_cast<std::size_t>(p.tb ? k * 20 + column : column * 20 + k)]);
      sum = p.alpha * sum + (p.beta == 0 ? 0 : p.beta * value_of(d[at])) +
            (p.bias ? value_of(bias[static_cast<std::size_t>(row)]) : 0);
      ASSERT_EQ(value_of(got[at]), value_of(make<Out>(sum))) << row << ", " << column;
    }
}

class CublasLt : public Emulation {};

TEST_F(CublasLt, EveryTypeAndTransposition) {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const bool bias : {false, true}) {
        Problem p{ta, tb, bias};
        if (tb) p.alpha = 2, p.beta = 0.5;
        compare<double, double>(p);
        compare<float, float>(p);
        compare<__nv_bfloat16, __nv_bfloat16>(p);
        compare<__nv_bfloat16, float>(p);
      }
}

TEST_F(CublasLt, BrokenPromisesAreRefused) {
  const std::vector<float> x(24 * 20);
  float *a = on_device(x), *b = on_device(x), *d = on_device(x);
  void* workspace = on_device(std::vector<char>(1024));
  Problem p;
  EXPECT_EQ((multiply<float, float>(p, a, b, d, nullptr, workspace)), CUBLAS_STATUS_SUCCESS);
  p.promised_alignment = 16;
  EXPECT_EQ((multiply<float, float>(p, a + 1, b, d, nullptr, workspace)), CUBLAS_STATUS_INVALID_VALUE);
  p.promised_alignment = 4;
  EXPECT_EQ((multiply<float, float>(p, x.data(), b, d, nullptr, workspace)), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ((multiply<float, float>(p, a + 100, b, d, nullptr, workspace)), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ((multiply<float, float>(p, a, b, d, nullptr, nullptr)), CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(CublasLt, NoDriver) {
  use_mode("driver=none");
  cublasLtHandle_t handle;
  EXPECT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_NOT_INITIALIZED);
}

}  // namespace
}  // namespace carillon_emulation
