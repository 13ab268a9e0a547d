#include "runtime/cuda/device_backend.h"

#include <array>
#include <cstring>
#include <vector>

#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/loader/survey.h"
#include "runtime/cuda/ops/operands.h"

namespace carillon {

CudaBackend::CudaBackend(const BackendOptions& options) : device_(options.device_index), tune_(options.tune) {
  const CudaSurvey survey = cuda::survey();
  if (!survey.problem.empty()) throw Error(ExitCode::kUsage, survey.problem);
  const auto count = static_cast<int>(survey.devices.size());
  if (device_ >= count)
    fail(ExitCode::kUsage,
         "rank {} of this node has no device: it has {} CUDA device{}, in runtime.device: cuda, start at most {} "
         "rank{} a "
         "node (mpirun --map-by ppr:{}:node)",
         device_, count, count == 1 ? "" : "s", count, count == 1 ? "" : "s", count);
  CHECK_CUDA(cudaSetDevice(device_));
  description_ = cuda::describe_device(device_);
  description_.libraries = survey.libraries;
  description_.attention = "native kernels";
  description_.attention_engine = "native";
  description_.devices = count;
  try {
    for (cudaStream_t* stream : {&stream_, &upload_stream_, &download_stream_})
      CHECK_CUDA(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking));
    beyond_ = allocate(sizeof(int));
    // Before the scratch area is allocated, so that the memory of the comparison has been freed by then.
    if (options.attention != "native") start_fused_attention(options);
    scratch_ = {};
    scratch_ = allocate(size_t{cuda::kScratchBytes});
  } catch (...) {
    fused_.reset();
    destroy_streams();
    throw;
  }
}

void CudaBackend::destroy_streams() {
  for (const cudaStream_t stream : {upload_stream_, download_stream_, stream_})
    if (stream != nullptr) cudaStreamDestroy(stream);
}

CudaBackend::~CudaBackend() {
  cudaSetDevice(device_);
  for (const cudaStream_t stream : {upload_stream_, download_stream_, stream_}) cudaStreamSynchronize(stream);
  products_.reset();
  fused_.reset();
  staged_.reset();
  for (const cudaEvent_t event : events_) cudaEventDestroy(event);
  destroy_streams();
}

DeviceDescription CudaBackend::describe() const { return description_; }

cudaStream_t CudaBackend::on_device() const {
  CHECK_CUDA(cudaSetDevice(device_));
  return stream_;
}

Buffer CudaBackend::allocate(size_t bytes) {
  const cudaStream_t stream = on_device();
  void* data = nullptr;
  const size_t wanted = std::max<size_t>(bytes, 1);
  const cudaError_t error = cudaMalloc(&data, wanted);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t available = 0, total = 0;
    cudaMemGetInfo(&available, &total);
    fail(
        ExitCode::kInputOutput,
        "cannot allocate {} MiB of device memory ({} of {} MiB are free), on {} {}, use more ranks, a shorter sequence "
        "or recompute: full",
        bytes >> 20, available >> 20, total >> 20, description_.processor, device_);
  }
  CHECK_CUDA(error);
  *allocated_ += static_cast<int64_t>(wanted);
  Buffer buffer(data, bytes, [device = device_, wanted, allocated = allocated_](void* pointer) {
    cudaSetDevice(device);
    cudaFree(pointer);  // at program exit CUDA may already be shut down
    *allocated -= static_cast<int64_t>(wanted);
  });
  CHECK_CUDA(cudaMemsetAsync(data, 0, wanted, stream));
  return buffer;
}

DeviceMemory CudaBackend::memory() {
  on_device();
  size_t available = 0, total = 0;
  CHECK_CUDA(cudaMemGetInfo(&available, &total));
  return {static_cast<int64_t>(total), static_cast<int64_t>(available), *allocated_};
}

bool CudaBackend::holds(const void* pointer) const {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, pointer) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  return attributes.type == cudaMemoryTypeDevice && attributes.device == device_;
}

void* CudaBackend::scratch(size_t bytes) {
  if (bytes > scratch_.bytes()) {
    CHECK_CUDA(cudaStreamSynchronize(on_device()));  // earlier ops may still use the old area
    scratch_ = {};
    scratch_ = allocate(bytes);
  }
  return scratch_.data();
}

void CudaBackend::wait() {
  int beyond = 0;
  CHECK_CUDA(cudaMemcpyAsync(&beyond, beyond_.data(), sizeof beyond, cudaMemcpyDeviceToHost, on_device()));
  CHECK_CUDA(cudaStreamSynchronize(stream_));
  CHECK(beyond == 0, "position beyond the rotation table");
}

void CudaBackend::synchronize() { wait(); }

namespace {

// Copies the elements of a strided host tensor into `packed` (gather), or back.
void host_elements(const cuda::Elementwise& shape, const cuda::Elementwise::Operand& x, size_t bytes, char* packed,
                   bool gather) {
  char* data = static_cast<char*>(x.data);
  for (int64_t row = 0; row < shape.rows; ++row) {
    int64_t offset = 0, rest = row;
    for (int dim = shape.outer - 1; dim >= 0; --dim) {
      offset += rest % shape.size[dim] * x.stride[dim];
      rest /= shape.size[dim];
    }
    for (int64_t i = 0; i < shape.length; ++i, packed += bytes) {
      char* element = data + (offset + i * x.step) * static_cast<int64_t>(bytes);
      gather ? std::memcpy(packed, element, bytes) : std::memcpy(element, packed, bytes);
    }
  }
}

struct Rows {
  char* data;
  size_t pitch;  // bytes
};

// The copy engine refuses rows that are 2 GiB apart or more, even a single row of that length.
void copy_rows(Rows to, Rows from, size_t width, size_t rows, cudaMemcpyKind kind, cudaStream_t stream) {
  if (rows == 1 || (to.pitch == width && from.pitch == width)) {
    CHECK_CUDA(cudaMemcpyAsync(to.data, from.data, rows * width, kind, stream));
    return;
  }
  int device = 0, most = 0;
  CHECK_CUDA(cudaGetDevice(&device));
  CHECK_CUDA(cudaDeviceGetAttribute(&most, cudaDevAttrMaxPitch, device));
  if (std::max(to.pitch, from.pitch) <= static_cast<size_t>(most)) {
    CHECK_CUDA(cudaMemcpy2DAsync(to.data, to.pitch, from.data, from.pitch, width, rows, kind, stream));
    return;
  }
  for (size_t row = 0; row < rows; ++row)
    CHECK_CUDA(cudaMemcpyAsync(to.data + row * to.pitch, from.data + row * from.pitch, width, kind, stream));
}

}  // namespace

void CudaBackend::transfer(Tensor device, Tensor host, Direction direction) {
  CHECK(device.shape() == host.shape() && device.dtype() == host.dtype(), "one shape and type",
        carillon::describe(device), carillon::describe(host));
  if (device.empty()) return wait();
  const bool up = direction == Direction::kToDevice;
  const auto kind = up ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
  const cudaStream_t stream = on_device();
  const cuda::Elementwise shape = cuda::elementwise(device, host);
  const size_t bytes = size_of(device.dtype());
  if (shape.y.step == 1 && shape.a.step == 1) {
    // Rows of contiguous elements: one call of the copy engine covers two dims, a loop the others; contiguous rows are
    // copied as one piece.
    const int inner = shape.outer - 1;  // the dim of rows
    const int64_t rows = shape.outer > 0 ? shape.size[inner] : 1;
    const auto pitch = [&](const cuda::Elementwise::Operand& x) {
      return static_cast<size_t>(rows > 1 ? x.stride[inner] : shape.length) * bytes;
    };
    for (int64_t block = 0; block < shape.rows / rows; ++block) {
      int64_t at_device = 0, at_host = 0, rest = block;
      for (int dim = inner - 1; dim >= 0; --dim) {
        at_device += rest % shape.size[dim] * shape.y.stride[dim];
        at_host += rest % shape.size[dim] * shape.a.stride[dim];
        rest /= shape.size[dim];
      }
      char* on_device_side = static_cast<char*>(device.raw()) + at_device * static_cast<int64_t>(bytes);
      char* on_host_side = static_cast<char*>(host.raw()) + at_host * static_cast<int64_t>(bytes);
      copy_rows({up ? on_device_side : on_host_side, pitch(up ? shape.y : shape.a)},
                {up ? on_host_side : on_device_side, pitch(up ? shape.a : shape.y)},
                static_cast<size_t>(shape.length) * bytes, static_cast<size_t>(rows), kind, stream);
    }
    return wait();
  }
  // No contiguous rows: go through packed copies on both sides.
  std::vector<char> packed(device.bytes());
  const std::vector<int64_t> dims = device.shape();
  const Tensor staged(scratch(device.bytes()), device.dtype(), dims);
  if (up) {
    host_elements(shape, shape.a, bytes, packed.data(), /*gather=*/true);
    CHECK_CUDA(cudaMemcpyAsync(staged.raw(), packed.data(), packed.size(), kind, stream));
    copy(device, staged);
    return wait();
  }
  copy(staged, device);
  CHECK_CUDA(cudaMemcpyAsync(packed.data(), staged.raw(), packed.size(), kind, stream));
  wait();
  host_elements(shape, shape.a, bytes, packed.data(), /*gather=*/false);
}

void CudaBackend::upload(Tensor device, Tensor host) {
  using cuda::StagedUploads;
  const bool staged = device.shape() == host.shape() && device.dtype() == host.dtype() && cuda::is_staged(device, host);
  if (!staged) return transfer(device, host, Direction::kToDevice);
  const cudaStream_t stream = on_device();
  if (!staged_)
    staged_ = std::make_unique<StagedUploads>(allocate_host(StagedUploads::kBlocks * StagedUploads::kBlockBytes));
  staged_->copy(device.raw(), host.raw(), device.bytes(), stream);
}
void CudaBackend::download(Tensor host, Tensor device) { transfer(device, host, Direction::kToHost); }

}  // namespace carillon
