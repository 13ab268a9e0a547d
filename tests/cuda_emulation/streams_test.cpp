// Streams in every order that the declared dependencies allow: correct programs give the same result in all of them,
// and a missing dependency gives another result in at least one.
#include <unistd.h>

#include <cmath>
#include <functional>

#include "emulation_test.h"

namespace carillon_emulation {
namespace {

constexpr int kCount = 32;
const std::vector<std::string> kOrders = {"streams=ordered", "streams=adversarial:0", "streams=adversarial:1",
                                          "streams=adversarial:2", "streams=adversarial:3"};

__global__ void add_to(float* y, const float* x, float value) { y[threadIdx.x] = x[threadIdx.x] + value; }

// The number of orders in which the program's result is not 3.
int wrong_orders(const std::function<float()>& program) {
  int count = 0;
  for (const std::string& order : kOrders) {
    use_mode(order);
    count += !(program() == 3.0f);  // NaN is wrong
  }
  return count;
}

cudaStream_t new_stream(unsigned flags = cudaStreamNonBlocking) {
  cudaStream_t stream = nullptr;
  EXPECT_CUDA(cudaStreamCreateWithFlags(&stream, flags));
  return stream;
}
cudaEvent_t new_event() {
  cudaEvent_t event = nullptr;
  EXPECT_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}
float* zeros() { return on_device(std::vector<float>(kCount)); }
void add(float* y, const float* x, float value, cudaStream_t stream) {
  EXPECT_CUDA(run(add_to, 1, kCount, 0, stream, y, x, value));
}

// y = (x + 1) + 2 on two streams.
float two_streams(bool with_wait) {
  float *x = zeros(), *y = zeros(), *z = zeros();
  const cudaStream_t first = new_stream(), second = new_stream();
  const cudaEvent_t event = new_event();
  add(y, x, 1, first);
  EXPECT_CUDA(cudaEventRecord(event, first));
  if (with_wait) {
    EXPECT_CUDA(cudaStreamWaitEvent(second, event));
  }
  add(z, y, 2, second);
  EXPECT_CUDA(cudaStreamSynchronize(second));
  return to_host(z, 1)[0];
}

// Overwrites a buffer that another stream still reads, which needs an event from the reader.
float buffer_reuse(bool with_wait) {
  float *x = zeros(), *y = zeros(), *z = zeros();
  const cudaStream_t reader = new_stream(), writer = new_stream();
  const cudaEvent_t written = new_event(), read = new_event();
  add(y, x, 1, writer);
  EXPECT_CUDA(cudaEventRecord(written, writer));
  EXPECT_CUDA(cudaStreamWaitEvent(reader, written));
  add(z, y, 2, reader);
  EXPECT_CUDA(cudaEventRecord(read, reader));
  if (with_wait) {
    EXPECT_CUDA(cudaStreamWaitEvent(writer, read));
  }
  add(y, x, 100, writer);
  EXPECT_CUDA(cudaStreamSynchronize(writer));
  return to_host(z, 1)[0];
}

// A copy into pinned memory is complete only after a wait.
float pinned_result(bool with_wait) {
  float *x = zeros(), *y = zeros(), *pinned = nullptr;
  EXPECT_CUDA(cudaMallocHost(&pinned, kCount * sizeof(float)));
  const cudaStream_t stream = new_stream();
  add(y, x, 3, stream);
  EXPECT_CUDA(cudaMemcpyAsync(pinned, y, kCount * sizeof(float), cudaMemcpyDeviceToHost, stream));
  if (with_wait) {
    EXPECT_CUDA(cudaStreamSynchronize(stream));
  }
  return pinned[0];
}

// Pinned memory is read when the copy runs, so it must not be overwritten before.
float pinned_source(bool with_wait) {
  float *y = zeros(), *pinned = nullptr;
  EXPECT_CUDA(cudaMallocHost(&pinned, kCount * sizeof(float)));
  const cudaStream_t stream = new_stream();
  for (int i = 0; i < kCount; ++i) pinned[i] = 3;
  EXPECT_CUDA(cudaMemcpyAsync(y, pinned, kCount * sizeof(float), cudaMemcpyHostToDevice, stream));
  if (with_wait) {
    EXPECT_CUDA(cudaStreamSynchronize(stream));
  }
  for (int i = 0; i < kCount; ++i) pinned[i] = 4;
  return to_host(y, 1)[0];
}

// Pageable memory is read during the call.
float pageable_source() {
  float* y = zeros();
  const cudaStream_t stream = new_stream();
  std::vector<float> host(kCount, 3);
  EXPECT_CUDA(cudaMemcpyAsync(y, host.data(), kCount * sizeof(float), cudaMemcpyHostToDevice, stream));
  host.assign(kCount, 4);
  std::vector<float> back(kCount);
  EXPECT_CUDA(cudaMemcpyAsync(back.data(), y, kCount * sizeof(float), cudaMemcpyDeviceToHost, stream));
  return back[0];
}

// The default stream synchronises with streams that are not non-blocking.
float legacy_stream(unsigned flags) {
  float *x = zeros(), *y = zeros(), *z = zeros();
  const cudaStream_t stream = new_stream(flags);
  add(y, x, 1, stream);
  add(y, y, 1, nullptr);
  add(z, y, 1, stream);
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  return to_host(z, 1)[0];
}

// Waiting for the default stream does not wait for a non-blocking one.
float synchronised_default(unsigned flags) {
  float *x = zeros(), *y = zeros(), *pinned = nullptr;
  EXPECT_CUDA(cudaMallocHost(&pinned, kCount * sizeof(float)));
  const cudaStream_t stream = new_stream(flags);
  add(y, x, 3, stream);
  EXPECT_CUDA(cudaMemcpyAsync(pinned, y, kCount * sizeof(float), cudaMemcpyDeviceToHost, stream));
  EXPECT_CUDA(cudaStreamSynchronize(nullptr));
  return pinned[0];
}

// A wait refers to the latest record before it, not to later ones.
float event_recorded_again() {
  float *x = zeros(), *y = zeros();
  const cudaStream_t first = new_stream(), second = new_stream();
  const cudaEvent_t event = new_event();
  add(y, x, 1, first);
  EXPECT_CUDA(cudaEventRecord(event, first));
  EXPECT_CUDA(cudaStreamWaitEvent(second, event));
  add(y, y, 2, second);
  EXPECT_CUDA(cudaEventRecord(event, second));
  EXPECT_CUDA(cudaEventSynchronize(event));
  std::vector<float> back(1);
  EXPECT_CUDA(cudaMemcpyAsync(back.data(), y, sizeof(float), cudaMemcpyDeviceToHost, second));
  return back[0];
}

class Streams : public Emulation {};

TEST_F(Streams, DeclaredDependenciesAreKept) {
  EXPECT_EQ(wrong_orders([] { return two_streams(true); }), 0);
  EXPECT_EQ(wrong_orders([] { return buffer_reuse(true); }), 0);
  EXPECT_EQ(wrong_orders([] { return pinned_result(true); }), 0);
  EXPECT_EQ(wrong_orders([] { return pinned_source(true); }), 0);
  EXPECT_EQ(wrong_orders(pageable_source), 0);
  EXPECT_EQ(wrong_orders([] { return legacy_stream(cudaStreamDefault); }), 0);
  EXPECT_EQ(wrong_orders([] { return synchronised_default(cudaStreamDefault); }), 0);
  EXPECT_EQ(wrong_orders(event_recorded_again), 0);
}

TEST_F(Streams, AMissingDependencyShows) {
  EXPECT_GT(wrong_orders([] { return two_streams(false); }), 0);
  EXPECT_GT(wrong_orders([] { return buffer_reuse(false); }), 0);
  EXPECT_GT(wrong_orders([] { return pinned_result(false); }), 0);
  EXPECT_GT(wrong_orders([] { return pinned_source(false); }), 0);
  EXPECT_GT(wrong_orders([] { return legacy_stream(cudaStreamNonBlocking); }), 0);
  EXPECT_GT(wrong_orders([] { return synchronised_default(cudaStreamNonBlocking); }), 0);
}

// Work is executed even if nothing waits for it, since another process may need it.
TEST_F(Streams, WorkNobodyWaitsForIsDoneInTheEnd) {
  use_mode("streams=adversarial:1");
  float *x = zeros(), *y = zeros();
  volatile float* pinned = nullptr;
  ASSERT_CUDA(cudaMallocHost(const_cast<float**>(&pinned), kCount * sizeof(float)));
  const cudaStream_t stream = new_stream();
  add(y, x, 3, stream);
  ASSERT_CUDA(cudaMemcpyAsync(const_cast<float*>(pinned), y, 4, cudaMemcpyDeviceToHost, stream));
  for (int i = 0; i < 5000 && pinned[0] != 3; ++i) usleep(1000);
  EXPECT_EQ(pinned[0], 3);
}

TEST_F(Streams, QueriesComeToAnEnd) {
  for (const std::string& order : kOrders) {
    use_mode(order);
    float *x = zeros(), *y = zeros();
    const cudaStream_t stream = new_stream();
    const cudaEvent_t event = new_event();
    EXPECT_CUDA(cudaEventQuery(event));  // never recorded
    for (int i = 0; i < 10; ++i) add(y, x, 1, stream);
    ASSERT_CUDA(cudaEventRecord(event, stream));
    while (cudaEventQuery(event) == cudaErrorNotReady) usleep(10);
    EXPECT_CUDA(cudaStreamQuery(stream));
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);  // "not ready" is no error
  }
}

TEST_F(Streams, TimesBetweenEvents) {
  cudaEvent_t start = nullptr, end = nullptr;
  ASSERT_CUDA(cudaEventCreate(&start));
  ASSERT_CUDA(cudaEventCreate(&end));
  float milliseconds = -1;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle);
  float *x = zeros(), *y = zeros();
  ASSERT_CUDA(cudaEventRecord(start));
  add(y, x, 1, nullptr);
  ASSERT_CUDA(cudaEventRecord(end));
  ASSERT_CUDA(cudaEventSynchronize(end));
  ASSERT_CUDA(cudaEventElapsedTime(&milliseconds, start, end));
  EXPECT_GE(milliseconds, 0);
}

TEST_F(Streams, DestroyedHandlesAreRefused) {
  const cudaStream_t stream = new_stream();
  const cudaEvent_t event = new_event();
  ASSERT_CUDA(cudaStreamDestroy(stream));
  ASSERT_CUDA(cudaEventDestroy(event));
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorInvalidResourceHandle);
}

// A stream belongs to the device that was current when it was created.
TEST_F(Streams, BelongToTheirDevice) {
  const cudaStream_t stream = new_stream();
  ASSERT_CUDA(cudaSetDevice(1));
  float* y = zeros();
  EXPECT_EQ(run(add_to, 1, kCount, 0, stream, y, static_cast<const float*>(y), 1.0f), cudaErrorInvalidResourceHandle);
}

}  // namespace
}  // namespace carillon_emulation
