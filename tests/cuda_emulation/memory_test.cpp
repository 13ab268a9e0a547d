// Invalid accesses to device memory are detected and reported.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "emulation_test.h"

namespace carillon_emulation {
namespace {

class DeviceMemory : public Emulation {};
using DeviceMemoryDeathTest = DeviceMemory;

__global__ void write_at(float* y, int index) { y[index] = 1; }
__global__ void copy_values(const float* x, float* y, int n) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += 32) y[i] = x[i];
}

TEST_F(DeviceMemory, CopiesBothWays) {
  std::vector<float> x(100000);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  float *a = on_device(x), *b = nullptr;
  ASSERT_CUDA(cudaMalloc(&b, x.size() * 4));
  ASSERT_CUDA(run(copy_values, 1, 32, 0, nullptr, static_cast<const float*>(a), b, static_cast<int>(x.size())));
  EXPECT_EQ(to_host(b, x.size()), x);
  ASSERT_CUDA(cudaMemset(b, 0, 8));
  EXPECT_EQ(to_host(b, 3), (std::vector<float>{0, 0, 2}));
  // Rows 1 … 2 of a [3, 4] matrix into columns 1 … 4 of a [2, 6] one.
  std::vector<float> wide(12, -1);
  ASSERT_CUDA(cudaMemcpy2D(wide.data() + 1, 24, a + 4, 16, 16, 2, cudaMemcpyDeviceToHost));
  EXPECT_EQ(wide, (std::vector<float>{-1, 4, 5, 6, 7, -1, -1, 8, 9, 10, 11, -1}));
  ASSERT_CUDA(cudaFree(a));
  ASSERT_CUDA(cudaFree(b));
}

// The driver refuses it for one row too (CU_DEVICE_ATTRIBUTE_MAX_PITCH).
TEST_F(DeviceMemory, RowsTooFarApartAreRefused) {
  float* x = on_device(std::vector<float>(4));
  std::vector<float> host(4);
  const std::size_t far = std::size_t{1} << 31;
  EXPECT_EQ(cudaMemcpy2D(host.data(), 16, x, far, 16, 1, cudaMemcpyDeviceToHost), cudaErrorInvalidPitchValue);
  EXPECT_EQ(cudaMemcpy2D(host.data(), far, x, 16, 16, 1, cudaMemcpyDeviceToHost), cudaErrorInvalidPitchValue);
  EXPECT_CUDA(cudaMemcpy2D(host.data(), far - 1, x, far - 1, 16, 1, cudaMemcpyDeviceToHost));
}

TEST_F(DeviceMemory, UnwrittenMemoryIsNaN) {
  float *x = nullptr, *y = nullptr;
  ASSERT_CUDA(cudaMalloc(&x, 256));
  ASSERT_CUDA(cudaMalloc(&y, 256));
  ASSERT_CUDA(run(copy_values, 1, 32, 0, nullptr, static_cast<const float*>(x), y, 64));
  for (const float value : to_host(y, 64)) EXPECT_TRUE(std::isnan(value));
}

TEST_F(DeviceMemoryDeathTest, HostCodeCannotTouchIt) {
  GTEST_FLAG_SET(death_test_style, "fast");
  float* x = on_device(std::vector<float>(10));
  EXPECT_DEATH(x[3] = 1, "host code touched device memory: address .*, in the allocation at .* of 40 bytes");
}

TEST_F(DeviceMemory, AHostPointerAmongAKernelsArgumentsIsRefused) {
  std::vector<float> heap(32);
  float stack[32] = {};
  static float global[32];
  float* y = on_device(heap);
  for (const float* host :
       {static_cast<const float*>(heap.data()), static_cast<const float*>(stack), static_cast<const float*>(global)})
    EXPECT_EQ(run(copy_values, 1, 32, 0, nullptr, host, y, 32), cudaErrorIllegalAddress);
  // Pinned memory may be read by kernels, as on a device.
  float* pinned = nullptr;
  ASSERT_CUDA(cudaMallocHost(&pinned, 128));
  for (int i = 0; i < 32; ++i) pinned[i] = static_cast<float>(i);
  EXPECT_CUDA(run(copy_values, 1, 32, 0, nullptr, static_cast<const float*>(pinned), y, 32));
  EXPECT_EQ(to_host(y, 32)[31], 31);
}

// The sanitisers find some faults first, and report them themselves.
#if defined(__SANITIZE_ADDRESS__)
bool said(const char* message) {
  return std::strstr(carillon_emulation_message(), message) ||
         std::strstr(carillon_emulation_message(), "its process ended");
}
#else
bool said(const char* message) { return std::strstr(carillon_emulation_message(), message) != nullptr; }
#endif

void expect_fault(float* y, int index, const char* message) {
  EXPECT_CUDA(run(write_at, 1, 1, 0, nullptr, y, index));
  EXPECT_NE(cudaDeviceSynchronize(), cudaSuccess) << message;
  EXPECT_TRUE(said(message)) << carillon_emulation_message();
  use_mode("");
}

TEST_F(DeviceMemory, OverrunsAndFreedMemoryFault) {
  expect_fault(on_device(std::vector<float>(64)), 64, "0 bytes after the allocation of 256 bytes");
  float* y = on_device(std::vector<float>(64));
  ASSERT_CUDA(cudaFree(y));
  expect_fault(y, 3, "in the allocation of 256 bytes");
  // A kernel that is still running can use the memory being freed, because cudaFree waits.
  y = on_device(std::vector<float>(64));
  ASSERT_CUDA(run(write_at, 1, 1, 0, nullptr, y, 5));
  EXPECT_CUDA(cudaFree(y));
  EXPECT_CUDA(cudaDeviceSynchronize());
  expect_fault(nullptr, 0, "is no device memory");
}

// Within the last 256 bytes an overrun crosses no page boundary; it is detected when the memory is freed.
TEST_F(DeviceMemory, SmallOverrunsAreNoticedAtFree) {
  float* y = on_device(std::vector<float>(63));
  ASSERT_CUDA(run(write_at, 1, 1, 0, nullptr, y, 63));
  EXPECT_EQ(cudaFree(y), cudaErrorLaunchFailure);
  EXPECT_TRUE(said("bytes after the allocation of 252 bytes")) << carillon_emulation_message();
}

TEST_F(DeviceMemory, WrongCallsAreRefused) {
  std::vector<float> host(16);
  float* x = on_device(host);
  EXPECT_EQ(cudaMemcpy(x, x, 64, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host.data(), host.data(), 64, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(x, host.data(), 65, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(x + 8, 0, 36), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(x + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(host.data()), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaFree(x));
  EXPECT_EQ(cudaFree(x), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaFree(nullptr));
  EXPECT_EQ(cudaMemcpy(host.data(), x, 64, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
}

TEST_F(DeviceMemory, SaysWhatAPointerIs) {
  cudaPointerAttributes attributes;
  std::vector<float> host(4);
  ASSERT_CUDA(cudaSetDevice(2));
  float *x = on_device(host), *pinned = nullptr;
  ASSERT_CUDA(cudaMallocHost(&pinned, 16));
  EXPECT_TRUE(std::isnan(pinned[0]));
  ASSERT_CUDA(cudaPointerGetAttributes(&attributes, x + 1));
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(attributes.device, 2);
  ASSERT_CUDA(cudaPointerGetAttributes(&attributes, pinned));
  EXPECT_EQ(attributes.type, cudaMemoryTypeHost);
  ASSERT_CUDA(cudaPointerGetAttributes(&attributes, host.data()));
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
  EXPECT_CUDA(cudaFreeHost(pinned));
}

TEST_F(DeviceMemory, EndsWhereTheModeSays) {
  use_mode("memory=4,devices=2");
  void *first = nullptr, *second = nullptr;
  std::size_t available = 0, total = 0;
  EXPECT_CUDA(cudaMalloc(&first, 3 << 20));
  EXPECT_CUDA(cudaMemGetInfo(&available, &total));
  EXPECT_EQ(total, std::size_t{4} << 20);
  EXPECT_EQ(available, std::size_t{1} << 20);
  EXPECT_EQ(cudaMalloc(&second, 2 << 20), cudaErrorMemoryAllocation);
  EXPECT_EQ(second, nullptr);
  EXPECT_CUDA(cudaFree(first));
  EXPECT_CUDA(cudaMalloc(&second, 2 << 20));
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  CarillonEmulationCounters counters;
  carillon_emulation_counters(&counters);
  EXPECT_EQ(counters.allocations, 2u);
  EXPECT_EQ(counters.peak_bytes, 3u << 20);
}

TEST_F(DeviceMemory, AContextTakesItsShare) {
  use_mode("memory=4,context=1");
  std::size_t available = 0, total = 0;
  EXPECT_CUDA(cudaMemGetInfo(&available, &total));
  EXPECT_EQ(total, std::size_t{4} << 20);
  EXPECT_EQ(available, std::size_t{3} << 20);
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, (3 << 20) + 1), cudaErrorMemoryAllocation);
  EXPECT_CUDA(cudaMalloc(&pointer, 3 << 20));
  EXPECT_CUDA(cudaFree(pointer));
}

TEST_F(DeviceMemory, DevicesReachEachOther) {
  use_mode("devices=6");
  const auto told = [](cudaDeviceP2PAttr attribute, int from, int to) {
    int value = -1;
    EXPECT_CUDA(cudaDeviceGetP2PAttribute(&value, attribute, from, to));
    return value;
  };
  EXPECT_EQ(told(cudaDevP2PAttrAccessSupported, 0, 5), 1);
  EXPECT_EQ(told(cudaDevP2PAttrNativeAtomicSupported, 0, 3), 1);
  EXPECT_EQ(told(cudaDevP2PAttrNativeAtomicSupported, 3, 4), 0);
  int value = 0;
  EXPECT_EQ(cudaDeviceGetP2PAttribute(&value, cudaDevP2PAttrAccessSupported, 1, 1), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaDeviceGetP2PAttribute(&value, cudaDevP2PAttrAccessSupported, 0, 6), cudaErrorInvalidDevice);
}

TEST_F(DeviceMemory, NoDriverAndOldDriver) {
  int count = -7, version = -1;
  for (const char* driver : {"none", "old"}) {
    use_mode(std::string("driver=") + driver);
    EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
    EXPECT_EQ(count, -7);
    EXPECT_CUDA(cudaDriverGetVersion(&version));
    EXPECT_EQ(version == 0, std::strcmp(driver, "none") == 0);
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, 4), cudaErrorInsufficientDriver);
    EXPECT_EQ(cudaMallocHost(&memory, 4), cudaErrorInsufficientDriver);
  }
  use_mode("devices=0");
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  use_mode("");
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

// As a thread the device computes the same; only the guard against accesses by host code is missing.
TEST_F(DeviceMemory, DeviceAsAThread) {
  use_mode("process=thread");
  float *x = on_device(std::vector<float>(32, 3)), *y = on_device(std::vector<float>(32));
  ASSERT_CUDA(run(copy_values, 1, 32, 0, nullptr, static_cast<const float*>(x), y, 32));
  EXPECT_EQ(to_host(y, 32), std::vector<float>(32, 3));
}

// CUDA does not survive a fork, and neither does the emulation.
TEST_F(DeviceMemory, AForkedProcessCannotUseItsParentsDevices) {
  on_device(std::vector<float>(4));
  const pid_t process = fork();
  if (process == 0) {
    void* memory = nullptr;
    _exit(cudaMalloc(&memory, 4) == cudaErrorInitializationError ? 0 : 1);
  }
  int status = -1;
  waitpid(process, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_CUDA(cudaDeviceSynchronize());
}

}  // namespace
}  // namespace carillon_emulation
