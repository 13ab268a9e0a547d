// Restrictions of CUDA devices, tested on an emulation that is equally strict; the test's entry in CMakeLists.txt sets
// CARILLON_EMULATION.
#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <numeric>
#include <tuple>

#include "runtime/cuda/loader/library.h"
#include "tests/cuda_emulation/counters.h"
#include "tests/support/device_memory.h"
#include "tests/support/isolated_backend.h"

namespace carillon::testing {
namespace {

CarillonEmulationCounters counted() {
  CarillonEmulationCounters counters{};
  reinterpret_cast<void (*)(CarillonEmulationCounters*)>(cuda_library_symbol("carillon_emulation_counted"))(&counters);
  return counters;
}

// Tensors in host memory with random numbers between -1 and 1.
class Numbers {
 public:
  Tensor make(DType dtype, const std::vector<int64_t>& shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    auto& bytes = memory_.emplace_back(static_cast<size_t>(count) * 8);
    auto& values = values_.emplace_back(static_cast<size_t>(count));
    for (float& value : values) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      value = static_cast<float>(static_cast<double>(state_ >> 11) * 0x1p-52 - 1);
    }
    const Tensor made(bytes.data(), dtype, shape);
    reference_->copy(made, Tensor(values.data(), DType::kFloat32, shape));
    return made;
  }
  Backend& reference() { return *reference_; }

 private:
  std::unique_ptr<Backend> reference_ = make_test_backend({.device = "reference"});
  std::deque<std::vector<char>> memory_;
  std::deque<std::vector<float>> values_;
  uint64_t state_ = 1;
};

// Rows at a larger pitch than the copy engine supports: a single row, adjacent rows, and rows with gaps.
TEST(CudaBackend, CopiesRowsAtAnyPitch) {
  const auto backend = make_test_backend({.device = "cuda"});
  const Buffer memory = backend->allocate(3 * 48 * sizeof(float));
  const Tensor wide(memory.data(), DType::kFloat32, {3, 48});
  for (const Tensor& device : {wide.rows(0, 1), wide, wide.slice(1, 4, 44)}) {
    std::vector<float> sent(static_cast<size_t>(device.count())), got(sent.size());
    std::iota(sent.begin(), sent.end(), 1.0f);
    const std::vector<int64_t> shape = device.shape();
    backend->upload(device, Tensor(sent.data(), DType::kFloat32, shape));
    backend->download(Tensor(got.data(), DType::kFloat32, shape), device);
    EXPECT_EQ(got, sent) << describe(device);
  }
}

// cuBLASLt has no algorithm for rows that are not 16-byte aligned: the results must still equal the reference, in every
// form that a step uses.
TEST(CudaBackend, MultipliesOddBFloat16) {
  const auto device = make_test_backend({.device = "cuda"});
  DeviceMemory memory(*device);
  for (const auto& [m, k, n] : {std::tuple<int64_t, int64_t, int64_t>{5, 16, 33}, {9, 33, 8}, {8, 7, 16}})
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const DType type : {DType::kBFloat16, DType::kFloat32})
          for (const bool accumulate : {false, true}) {
            Numbers numbers;
            const Tensor a = numbers.make(DType::kBFloat16, ta ? std::vector{k, m} : std::vector{m, k});
            const Tensor b = numbers.make(DType::kBFloat16, tb ? std::vector{n, k} : std::vector{k, n});
            const Tensor expected = numbers.make(type, {m, n}), got = numbers.make(type, {m, n});
            const Tensor there = memory.give(expected);
            const auto transpose = [](bool yes) { return yes ? Transpose::kYes : Transpose::kNo; };
            numbers.reference().matmul(expected, a, b, transpose(ta), transpose(tb), accumulate);
            device->matmul(there, memory.give(a), memory.give(b), transpose(ta), transpose(tb), accumulate);
            memory.take(got, there);
            const auto x = download_as_double(numbers.reference(), got);
            const auto y = download_as_double(numbers.reference(), expected);
            for (size_t i = 0; i < x.size(); ++i)
              ASSERT_NEAR(x[i], y[i], 0.01 * (1 + std::abs(y[i]))) << m << k << n << ta << tb << accumulate;
          }
}

// Many gradients for one row of the table are added in short pieces: a single 2^-24 added to 1 is lost, 256 of them are
// not.
TEST(CudaBackend, AddsAnEmbeddingRowByPieces) {
  const auto device = make_test_backend({.device = "cuda"});
  DeviceMemory memory(*device);
  constexpr int64_t kRows = 1024;
  for (const int64_t before : {0, 3}) {  // rows of other ids, so that no piece belongs to one id alone
    std::vector<int64_t> ids(kRows, 5);
    std::vector<float> dy(kRows, 0x1p-24f), table(8);
    for (int64_t row = 0; row < before; ++row) ids[static_cast<size_t>(row)] = row, dy[static_cast<size_t>(row)] = 7;
    ids.back() = 6, dy.back() = 9;
    dy[static_cast<size_t>(before)] = 1;
    const Tensor there = memory.give(Tensor::of(table, {8, 1}));
    device->embedding_backward(there, memory.give(Tensor::of(ids, {kRows})), memory.give(Tensor::of(dy, {kRows, 1})),
                               0);
    memory.take(Tensor::of(table, {8, 1}), there);
    for (int64_t id = 0; id < 5; ++id) EXPECT_EQ(table[static_cast<size_t>(id)], id < before ? 7 : 0);
    EXPECT_NEAR(table[5], 1 + 767 * 0x1p-24, 0x1p-23);
    EXPECT_EQ(table[6], 9);
  }
}

// Large host memory is first touched by all processors, then page-locked; concurrent copies work with it as with any
// other.
TEST(CudaBackend, LocksLargeHostMemoryOfItsOwnMaking) {
  const auto backend = make_test_backend({.device = "cuda"});
  constexpr size_t kBytes = (size_t{65} << 20) + 4;
  const uint64_t before = counted().registered_bytes;
  Buffer memory = backend->allocate_host(kBytes);
  EXPECT_GE(counted().registered_bytes - before, kBytes);
  const auto count = static_cast<int64_t>(kBytes / 4);
  const Tensor host(memory.data(), DType::kFloat32, {count});
  for (const int64_t i : {int64_t{0}, count / 2, count - 1}) EXPECT_EQ(host.data<float>()[i], 0);
  host.data<float>()[0] = 3, host.data<float>()[count - 1] = 5;
  const Buffer on_device = backend->allocate(kBytes);
  const Tensor device(on_device.data(), DType::kFloat32, {count});
  backend->start_upload(device, host)->wait();
  backend->scale(device, 2);
  backend->synchronize();
  host.data<float>()[0] = 0;
  backend->start_download(host, device)->wait();
  backend->synchronize();
  EXPECT_EQ(host.data<float>()[0], 6);
  EXPECT_EQ(host.data<float>()[count - 1], 10);
  memory = {};
}

// A shape of product always uses the same algorithm, wherever its tensors are, because another one gives other bits.
TEST(CudaBackend, SearchesOnceForAShape) {
  const auto backend = make_test_backend({.device = "cuda"});
  const Buffer memory = backend->allocate(4096);
  const uint64_t before = counted().product_searches;
  for (const size_t offset : {0, 16, 32, 64, 128, 256}) {
    const auto at = [&](size_t place) {
      return Tensor(static_cast<char*>(memory.data()) + 1024 * place + offset, DType::kBFloat16, {8, 8});
    };
    backend->matmul(at(0), at(1), at(2), Transpose::kNo, Transpose::kNo);
  }
  EXPECT_EQ(counted().product_searches - before, 1u);
}

}  // namespace
}  // namespace carillon::testing
