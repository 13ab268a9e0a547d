#include "parallel/transport/nccl_communicator.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <span>

#include "parallel/transport/nccl_watchdog.h"
#include "runtime/cuda/check_cuda.h"

namespace carillon {
namespace {

ncclDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return ncclFloat64;
    case DType::kFloat32:
      return ncclFloat32;
    case DType::kBFloat16:
      return ncclBfloat16;
    case DType::kInt64:
      return ncclInt64;
    case DType::kUInt8:
      return ncclUint8;
  }
  throw InternalError("NCCL has no such type");
}

ncclRedOp_t operation_of(Reduction reduction) {
  return reduction == Reduction::kSum ? ncclSum : reduction == Reduction::kMax ? ncclMax : ncclMin;
}

// The last operation among all groups of one rank (thread): the next one of another group waits for it.
struct Order {
  std::shared_ptr<NcclOperation> last;
  const void* group = nullptr;
};

std::shared_ptr<Order> order_of_this_rank() {
  thread_local const auto order = std::make_shared<Order>();
  return order;
}

// An exchange or collective in flight on the group's stream.
class NcclTransfer : public Communicator::Transfer {
 public:
  NcclTransfer(cudaStream_t queue, std::shared_ptr<NcclOperation> operation, bool (*drops_wait)())
      : queue_(queue), operation_(std::move(operation)), drops_wait_(drops_wait) {}
  void wait() override {
    if (drops_wait_ != nullptr && drops_wait_()) return;
    CHECK_CUDA(cudaStreamWaitEvent(queue_, operation_->end, 0));
  }

 private:
  cudaStream_t queue_;
  std::shared_ptr<NcclOperation> operation_;
  bool (*drops_wait_)();
};

struct NothingUnderWay : Communicator::Transfer {
  void wait() override {}
};

class NcclTransport : public DeviceTransport {
  using Transfer = Communicator::Transfer;
  using ReduceScatter = Communicator::ReduceScatter;

 public:
  NcclTransport(Backend& backend, Communicator& host, const NcclOptions& options);
  ~NcclTransport() override;
  void join(Communicator& host);

  std::string describe() const override;
  void connect(const std::vector<int>& to, const std::vector<int>& from) override;
  void all_reduce(Tensor x, Reduction reduction) override { await(put_all_reduces({&x, 1}, reduction)); }
  void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    await(put_all_gather(y, x, counts));
  }
  void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    const ReduceScatter part{y, x, counts};
    await(put_reduce_scatters({&part, 1}));
  }
  void broadcast(Tensor x, int root) override;
  std::unique_ptr<Transfer> start_all_reduces(const std::vector<Tensor>& tensors, Reduction reduction) override {
    return under_way(put_all_reduces(tensors, reduction), options_.drops_collective_wait);
  }
  std::unique_ptr<Transfer> start_all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    return under_way(put_all_gather(y, x, counts), options_.drops_collective_wait);
  }
  std::unique_ptr<Transfer> start_reduce_scatters(const std::vector<ReduceScatter>& parts) override {
    return under_way(put_reduce_scatters(parts), options_.drops_collective_wait);
  }
  std::unique_ptr<Transfer> start_exchange(Tensor send, int to, Tensor receive, int from) override;

 private:
  // Enqueues the calls that `body` makes (inside an NcclCall) on the group's stream, as one NCCL group, after the work
  // on the backend's queue.
  template <class Body>
  std::shared_ptr<NcclOperation> put(const char* what, Body body);
  // These return nullptr if there are no elements.
  std::shared_ptr<NcclOperation> put_all_reduces(std::span<const Tensor> tensors, Reduction reduction);
  std::shared_ptr<NcclOperation> put_all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts);
  std::shared_ptr<NcclOperation> put_reduce_scatters(std::span<const ReduceScatter> parts);
  void call_reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts);
  // Makes the queue wait for the operation: at once (await), or when the returned Transfer is waited for (under_way).
  void await(const std::shared_ptr<NcclOperation>& operation);
  std::unique_ptr<Transfer> under_way(std::shared_ptr<NcclOperation> operation, bool (*drops_wait)());
  // Throws error 75 for failures that are not our mistake. Must be called inside an NcclCall.
  void require(ncclResult_t result, const char* what);
  [[noreturn]] void lost(const char* what, const std::string& why);

  Backend& backend_;
  const NcclOptions options_;
  const int rank_, size_;
  const std::string who_;
  const cudaStream_t queue_;
  int device_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t ready_ = nullptr;  // recorded on the queue where the operation was called
  ncclComm_t communicator_ = nullptr;
  std::shared_ptr<NcclGroup> group_;
  std::shared_ptr<EventPool> events_ = std::make_shared<EventPool>();
  std::shared_ptr<Order> order_ = order_of_this_rank();
  std::shared_ptr<NcclWatchdog> watchdog_;
  int64_t operations_ = 0;
};

NcclTransport::NcclTransport(Backend& backend, Communicator& host, const NcclOptions& options)
    : backend_(backend),
      options_(options),
      rank_(host.rank()),
      size_(host.size()),
      who_(fmt::format("rank {} of {} of group {}", host.rank(), host.size(), host.name())),
      queue_(static_cast<cudaStream_t>(backend.queue())) {
  CHECK(queue_ != nullptr, "NCCL is for backends with a queue", who_);
}

NcclTransport::~NcclTransport() {
  cudaSetDevice(device_);
  // When an error unwinds the stack, the peers may be gone, so nothing is waited for.
  bool orderly = std::uncaught_exceptions() == 0;
  if (communicator_ != nullptr && orderly) {
    cudaStreamSynchronize(stream_);  // the watchdog covers this wait and the next call
    const NcclCall call(*group_, "leaving a group");
    orderly = ncclCommFinalize(communicator_) == ncclSuccess;
  }
  if (group_) {
    watchdog_->forget(*group_);
    group_->communicator = nullptr;
  }
  if (communicator_ != nullptr) orderly ? ncclCommDestroy(communicator_) : ncclCommAbort(communicator_);
  if (order_->group == this) *order_ = {};
  if (ready_ != nullptr) cudaEventDestroy(ready_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void NcclTransport::lost(const char* what, const std::string& why) {
  fail(ExitCode::kLostPeer, "{}: {}, on {}, look for a rank that died or hangs and start again", what, why, who_);
}

void NcclTransport::require(ncclResult_t result, const char* what) {
  if (result == ncclSuccess) return;
  const char* detail = ncclGetLastError(communicator_);
  const std::string why = fmt::format("NCCL reports \"{}\"{}{}", ncclGetErrorString(result),
                                      detail != nullptr && *detail != 0 ? ": " : "", detail == nullptr ? "" : detail);
  if (result == ncclInvalidArgument || result == ncclInvalidUsage)
    throw InternalError(fmt::format("{}: {}, on {}", what, why, who_));
  lost(what, why);
}

void NcclTransport::join(Communicator& host) {
  CHECK_CUDA(cudaGetDevice(&device_));
  // Higher priority than the queue's kernels if both are ready to start: a rank that waits for a message delays all
  // ranks.
  int least = 0, greatest = 0;
  CHECK_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  CHECK_CUDA(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest));
  CHECK_CUDA(cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming));

  struct {
    int64_t result;
    ncclUniqueId id;
  } first{};
  if (rank_ == 0) first.result = ncclGetUniqueId(&first.id);
  host.broadcast(Tensor(&first, DType::kUInt8, {static_cast<int64_t>(sizeof first)}), 0);
  if (first.result != ncclSuccess)
    fail(ExitCode::kUsage, "NCCL cannot start ({}), on rank 0 of group {}, set NCCL_DEBUG=INFO to see why",
         ncclGetErrorString(static_cast<ncclResult_t>(first.result)), host.name());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 1;
  config.maxCTAs = kNcclChannels;
  watchdog_ = NcclWatchdog::of_process();
  group_ = std::make_shared<NcclGroup>(device_, who_, options_.timeout_seconds);
  watchdog_->watch(group_);
  {
    const NcclCall call(*group_, "joining a group");
    const ncclResult_t result = ncclCommInitRankConfig(&communicator_, size_, first.id, rank_, &config);
    if (result == ncclInvalidUsage || result == ncclInvalidArgument)
      fail(ExitCode::kUsage,
           "NCCL does not join these ranks ({}: {}), on {}, give every rank a device of its own or set NCCL_DEBUG=INFO "
           "to see why",
           ncclGetErrorString(result), ncclGetLastError(communicator_), who_);
    require(result, "joining a group");
    group_->communicator = communicator_;
  }
  // Sets up the rings or trees of reductions, whose memory is allocated at first use.
  const Buffer buffer = backend_.allocate(sizeof(float));
  await(put("a first all-reduce", [&] {
    return ncclAllReduce(buffer.data(), buffer.data(), 1, ncclFloat32, ncclSum, communicator_, stream_);
  }));
  backend_.synchronize();
}

void NcclTransport::connect(const std::vector<int>& to, const std::vector<int>& from) {
  if (to.empty() && from.empty()) return;
  const Buffer buffer = backend_.allocate(to.size() + from.size());
  char* bytes = static_cast<char*>(buffer.data());
  await(put("a first exchange", [&] {
    for (const int peer : to)
      require(ncclSend(bytes++, 1, ncclUint8, peer, communicator_, stream_), "a first exchange");
    for (const int peer : from)
      require(ncclRecv(bytes++, 1, ncclUint8, peer, communicator_, stream_), "a first exchange");
    return ncclSuccess;
  }));
  backend_.synchronize();
}

std::string NcclTransport::describe() const {
  int version = 0;
  ncclGetVersion(&version);
  return fmt::format("NCCL {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

template <class Body>
std::shared_ptr<NcclOperation> NcclTransport::put(const char* what, Body body) {
  CHECK_CUDA(cudaSetDevice(device_));
  CHECK_CUDA(cudaEventRecord(ready_, queue_));
  CHECK_CUDA(cudaStreamWaitEvent(stream_, ready_, 0));
  if (order_->last && order_->group != this) CHECK_CUDA(cudaStreamWaitEvent(stream_, order_->last->end, 0));
  auto operation = std::make_shared<NcclOperation>(events_, what, ++operations_);
  CHECK_CUDA(cudaEventRecord(operation->begin, stream_));
  {
    const NcclCall call(*group_, what);
    require(ncclGroupStart(), what);
    require(body(), what);
    require(ncclGroupEnd(), what);
  }
  CHECK_CUDA(cudaEventRecord(operation->end, stream_));
  watchdog_->add(*group_, operation);
  *order_ = {operation, this};
  return operation;
}

void NcclTransport::await(const std::shared_ptr<NcclOperation>& operation) {
  if (operation) CHECK_CUDA(cudaStreamWaitEvent(queue_, operation->end, 0));
}

std::unique_ptr<Communicator::Transfer> NcclTransport::under_way(std::shared_ptr<NcclOperation> operation,
                                                                 bool (*drops_wait)()) {
  if (!operation) return std::make_unique<NothingUnderWay>();
  return std::make_unique<NcclTransfer>(queue_, std::move(operation), drops_wait);
}

bool even(const std::vector<int64_t>& counts) {
  return std::all_of(counts.begin(), counts.end(), [&](int64_t count) { return count == counts.front(); });
}

std::shared_ptr<NcclOperation> NcclTransport::put_all_reduces(std::span<const Tensor> tensors, Reduction reduction) {
  if (std::all_of(tensors.begin(), tensors.end(), [](const Tensor& x) { return x.empty(); })) return nullptr;
  return put("an all-reduce", [&] {
    for (const Tensor& x : tensors)
      if (!x.empty())
        require(ncclAllReduce(x.raw(), x.raw(), static_cast<size_t>(x.count()), type_of(x.dtype()),
                              operation_of(reduction), communicator_, stream_),
                "an all-reduce");
    return ncclSuccess;
  });
}

std::shared_ptr<NcclOperation> NcclTransport::put_all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) {
  if (y.empty()) return nullptr;
  const int64_t row = y.count() / y.size(0);
  const ncclDataType_t type = type_of(y.dtype());
  return put("an all-gather", [&] {
    if (even(counts))
      return ncclAllGather(x.raw(), y.raw(), static_cast<size_t>(x.count()), type, communicator_, stream_);
    int64_t begin = 0;
    for (int root = 0; root < size_; ++root) {
      const int64_t rows = counts[static_cast<size_t>(root)];
      const Tensor part = y.rows(begin, begin + rows);
      begin += rows;
      if (rows == 0) continue;
      require(ncclBroadcast(root == rank_ ? x.raw() : part.raw(), part.raw(), static_cast<size_t>(rows * row), type,
                            root, communicator_, stream_),
              "an all-gather");
    }
    return ncclSuccess;
  });
}

void NcclTransport::call_reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) {
  const int64_t row = x.count() / x.size(0);
  const ncclDataType_t type = type_of(x.dtype());
  if (even(counts)) {
    require(ncclReduceScatter(x.raw(), y.raw(), static_cast<size_t>(y.count()), type, ncclSum, communicator_, stream_),
            "a reduce-scatter");
    return;
  }
  int64_t begin = 0;
  for (int root = 0; root < size_; ++root) {
    const int64_t rows = counts[static_cast<size_t>(root)];
    const Tensor part = x.rows(begin, begin + rows);
    begin += rows;
    if (rows == 0) continue;
    require(ncclReduce(part.raw(), root == rank_ ? y.raw() : nullptr, static_cast<size_t>(rows * row), type, ncclSum,
                       root, communicator_, stream_),
            "a reduce-scatter");
  }
}

std::shared_ptr<NcclOperation> NcclTransport::put_reduce_scatters(std::span<const ReduceScatter> parts) {
  if (std::all_of(parts.begin(), parts.end(), [](const auto& part) { return part.x.empty(); })) return nullptr;
  return put("a reduce-scatter", [&] {
    for (const auto& [y, x, counts] : parts)
      if (!x.empty()) call_reduce_scatter(y, x, counts);
    return ncclSuccess;
  });
}

void NcclTransport::broadcast(Tensor x, int root) {
  if (x.empty()) return;
  await(put("a broadcast", [&] {
    return ncclBroadcast(x.raw(), x.raw(), static_cast<size_t>(x.count()), type_of(x.dtype()), root, communicator_,
                         stream_);
  }));
}

// In one group, because a send may block until its receive is called, and the receive must not be behind a send.
std::unique_ptr<Communicator::Transfer> NcclTransport::start_exchange(Tensor send, int to, Tensor receive, int from) {
  const bool sends = !send.empty() && to >= 0, receives = !receive.empty() && from >= 0;
  if (!sends && !receives) return under_way(nullptr, nullptr);
  auto operation = put("an exchange", [&] {
    if (sends) require(ncclSend(send.raw(), send.bytes(), ncclUint8, to, communicator_, stream_), "an exchange");
    if (receives)
      require(ncclRecv(receive.raw(), receive.bytes(), ncclUint8, from, communicator_, stream_), "an exchange");
    return ncclSuccess;
  });
  return under_way(std::move(operation), options_.drops_exchange_wait);
}

}  // namespace
}  // namespace carillon

extern "C" __attribute__((visibility("default"))) carillon::DeviceTransport* carillon_make_nccl_communicator(
    carillon::Backend* backend, carillon::Communicator* host, const carillon::NcclOptions* options) {
  auto transport = std::make_unique<carillon::NcclTransport>(*backend, *host, *options);
  transport->join(*host);
  return transport.release();
}

extern "C" __attribute__((visibility("default"))) int carillon_nccl_version() {
  int version = 0;
  ncclGetVersion(&version);
  return version;
}
