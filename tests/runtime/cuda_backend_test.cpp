// What a CUDA device takes only in some ways, on the emulation made as strict about it: CARILLON_EMULATION is that of
// the test's entry in CMakeLists.txt.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/isolated_backend.h"

namespace carillon::testing {
namespace {

// Rows further apart than the copy engine takes: one alone, several side by side, and with gaps.
TEST(CudaBackend, CopiesRowsAtAnyPitch) {
  const auto backend = make_test_backend({.device = "cuda"});
  const Buffer memory = backend->allocate(3 * 48 * sizeof(float));
  const Tensor wide(memory.data(), DType::kFloat32, {3, 48});
  for (const Tensor& device : {wide.rows(0, 1), wide, wide.slice(1, 4, 44)}) {
    std::vector<float> sent(static_cast<size_t>(device.count())), got(sent.size());
    std::iota(sent.begin(), sent.end(), 1.0f);
    backend->upload(device, Tensor(sent.data(), DType::kFloat32, device.shape()));
    backend->download(Tensor(got.data(), DType::kFloat32, device.shape()), device);
    EXPECT_EQ(got, sent) << describe(device);
  }
}

}  // namespace
}  // namespace carillon::testing
