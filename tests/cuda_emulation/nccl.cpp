#include "nccl.h"

#include <sys/random.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

#include "nccl_communicator.h"

using namespace carillon_emulation;

namespace {

thread_local int group_depth = 0;
struct Called {
  ncclComm_t communicator;
  CUstream_st* stream;
  ExchangeOperation operation;
};
thread_local std::vector<Called> called_in_group;
thread_local ncclResult_t first_error_in_group = ncclSuccess;
// One text for all communicators and threads; NCCL itself promises only "a human-readable message".
std::mutex text_mutex;
char last_text[400] = "";

// The bytes that a ring or a chain would send: per rank, or the total counted at one rank (README.md).
std::uint64_t sent_bytes(const ncclComm& c, const ExchangeOperation& op) {
  const std::uint64_t bytes = op.count * nccl_type_bytes(op.type), others = static_cast<std::uint64_t>(c.ranks - 1);
  switch (op.kind) {
    case ExchangeKind::kSend:
      return bytes;
    case ExchangeKind::kReceive:
      return 0;
    case ExchangeKind::kAllReduce:
      return 2 * others * bytes / static_cast<std::uint64_t>(c.ranks);
    case ExchangeKind::kReduce:
      return c.rank == op.peer ? 0 : bytes;
    case ExchangeKind::kBroadcast:
      return c.rank == op.peer ? others * bytes : 0;
    default:
      return others * bytes;
  }
}

// Queues the operations of a group on the stream. Call with the communicator's mutex held.
void put_on_stream(ncclComm& c, CUstream_st* stream, const std::vector<ExchangeOperation>& operations) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return;
  std::lock_guard lock(state->mutex);
  const ExchangeCommand command{c.handle, c.turn++, static_cast<std::int32_t>(operations.size()), 0};
  c.last_number = submit(*state, *stream, CommandKind::kExchange, &command, sizeof(command), operations.data(),
                         operations.size() * sizeof(ExchangeOperation));
  c.last_stream = stream->slot;
  state->nccl_operations += operations.size();
  for (const ExchangeOperation& op : operations)
    if (op.kind == ExchangeKind::kSend || op.kind == ExchangeKind::kReceive)
      state->nccl_connections += c.connected.emplace(op.kind == ExchangeKind::kSend, op.peer).second;
  for (const ExchangeOperation& op : operations) state->nccl_bytes += sent_bytes(c, op);
}

bool usable(const HostState& state, const void* pointer, std::size_t bytes) {
  if (bytes == 0) return true;
  const Allocation* allocation = state.allocation_of(pointer);
  return allocation && static_cast<const char*>(pointer) + bytes <= allocation->pointer + allocation->bytes;
}

ncclResult_t check(ncclComm_t c, const ExchangeOperation& op, cudaStream_t handle, CUstream_st*& stream) {
  if (!c) return nccl_error(ncclInvalidArgument, "no communicator");
  if (c->state.load() != ncclSuccess)
    return nccl_error(ncclInvalidArgument, "the communicator is not ready (%s)", ncclGetErrorString(c->state.load()));
  // NCCL checks for an error of the communicator at every call on it.
  if (const int found = c->segment->slot(c->rank).error.load(); found != ncclSuccess)
    return nccl_error(static_cast<ncclResult_t>(found), "the communicator has failed");
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return nccl_error(ncclUnhandledCudaError, "%s", cudaGetErrorString(error));
  const std::size_t bytes = nccl_type_bytes(op.type);
  if (bytes == 0) return nccl_error(ncclInvalidArgument, "data type %d", op.type);
  if (op.peer < 0 || op.peer >= c->ranks) return nccl_error(ncclInvalidArgument, "rank %d of %d", op.peer, c->ranks);
  std::lock_guard lock(state->mutex);
  stream = stream_of(*state, handle);
  if (!stream) return nccl_error(ncclInvalidArgument, "no such stream");
  if (stream->device != c->device)
    return nccl_error(ncclInvalidUsage, "a stream of device %d for a communicator of device %d", stream->device,
                      c->device);
  const std::size_t n = static_cast<std::size_t>(c->ranks);
  const bool root = op.peer == c->rank;
  std::size_t send = op.count, receive = op.count;
  switch (op.kind) {
    case ExchangeKind::kSend:
      receive = 0;
      break;
    case ExchangeKind::kReceive:
      send = 0;
      break;
    case ExchangeKind::kAllGather:
      receive *= n;
      break;
    case ExchangeKind::kReduceScatter:
      send *= n;
      break;
    case ExchangeKind::kReduce:
      if (!root) receive = 0;
      break;
    case ExchangeKind::kBroadcast:
      if (!root) send = 0;
      break;
    default:
      break;
  }
  if (!usable(*state, op.send, send * bytes) || !usable(*state, op.receive, receive * bytes))
    return nccl_error(ncclInvalidArgument, "a buffer is not inside one device allocation");
  return ncclSuccess;
}

ncclResult_t begin_or_wait(ncclComm& c, CUstream_st* stream, std::vector<ExchangeOperation> operations) {
  std::lock_guard lock(c.mutex);
  if (c.blocking) {
    put_on_stream(c, stream, operations);
    return ncclSuccess;
  }
  if (!c.waiting.empty())
    return nccl_error(ncclInvalidArgument, "called before the previous operation returned ncclSuccess");
  c.waiting.push_back({stream, std::move(operations)});
  c.questions = 0;
  cudaError_t error;
  if (HostState* state = host_state(error)) {
    std::lock_guard guard(state->mutex);
    ++state->nccl_threads;
  }
  c.job = new std::thread([] {});
  return ncclInProgress;
}

// Does what NCCL does in a thread that queries the state of a communicator. The pause represents the time of a join, so
// that two threads that query at the same time meet here.
void complete_job(ncclComm& c) {
  if (!c.blocking) usleep(100);
  if (c.job == nullptr) return;
  c.job->join();
  delete c.job;
  c.job = nullptr;
}

ncclResult_t call(ncclComm_t c, ExchangeOperation operation, cudaStream_t handle) {
  CUstream_st* stream = nullptr;
  const ncclResult_t result = check(c, operation, handle, stream);
  if (result != ncclSuccess) {
    if (group_depth > 0 && first_error_in_group == ncclSuccess) first_error_in_group = result;
    return result;
  }
  if (group_depth == 0) return begin_or_wait(*c, stream, {operation});
  called_in_group.push_back({c, stream, operation});
  return ncclSuccess;
}

bool blocking_of(const ncclConfig_t* config, bool otherwise) {
  return config && config->blocking != NCCL_CONFIG_UNDEF_INT ? config->blocking != 0 : otherwise;
}

// Waits until the communicator's last operation on this rank is done.
void wait_for_operations(ncclComm& c) {
  cudaError_t error;
  HostState* state = host_state(error);
  std::unique_lock lock(c.mutex);
  const int stream = c.last_stream;
  const std::uint64_t number = c.last_number;
  lock.unlock();
  if (state && number > 0) wait_for(*state, stream, number);
}

void let_go(ncclComm& c, RankState how) {
  c.give_up = true;
  if (c.maker.joinable()) c.maker.join();
  complete_job(c);
  if (!c.segment || !c.segment->ok()) return;
  c.segment->slot(c.rank).state.store(how);
  c.segment->unlink();
}

}  // namespace

namespace carillon_emulation {

ncclResult_t nccl_error(ncclResult_t result, const char* format, ...) {
  std::lock_guard lock(text_mutex);
  va_list list;
  va_start(list, format);
  std::vsnprintf(last_text, sizeof(last_text), format, list);
  va_end(list);
  return result;
}

}  // namespace carillon_emulation

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::uint64_t random[2];
  if (getrandom(random, sizeof(random), 0) != sizeof(random)) return ncclSystemError;
  *id = {};
  std::snprintf(id->internal, sizeof(id->internal), "/carillon-nccl-%016lx%016lx", random[0], random[1]);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* communicator, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (ranks < 1 || rank < 0 || rank >= ranks)
    return nccl_error(ncclInvalidArgument, "rank %d of %d ranks", rank, ranks);
  if (config && config->magic != 0xcafebeef)
    return nccl_error(ncclInvalidArgument, "the configuration was not begun with NCCL_CONFIG_INITIALIZER");
  id.internal[NCCL_UNIQUE_ID_BYTES - 1] = 0;
  if (std::strncmp(id.internal, "/carillon-nccl-", 15) != 0)
    return nccl_error(ncclInvalidArgument, "what was given as unique id is none");
  return make_communicator(communicator, id.internal, rank, ranks, blocking_of(config, true));
}

ncclResult_t ncclCommInitRank(ncclComm_t* communicator, int ranks, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(communicator, ranks, id, rank, nullptr);
}

ncclResult_t ncclCommSplit(ncclComm_t communicator, int color, int key, ncclComm_t* made, ncclConfig_t* config) {
  if (!communicator || communicator->state.load() != ncclSuccess)
    return nccl_error(ncclInvalidArgument, "the communicator to split is not ready");
  return split_communicator(communicator, color, key, made, blocking_of(config, communicator->blocking));
}

ncclResult_t ncclCommFinalize(ncclComm_t communicator) {
  if (!communicator) return ncclInvalidArgument;
  if (communicator->blocking) {
    wait_for_operations(*communicator);
    return ncclSuccess;
  }
  std::lock_guard lock(communicator->mutex);
  communicator->finalizing = true;
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t communicator) {
  if (!communicator) return ncclSuccess;
  if (communicator->maker.joinable()) communicator->maker.join();
  wait_for_operations(*communicator);
  let_go(*communicator, RankState::kLeft);
  cudaError_t error;
  if (HostState* state = host_state(error)) {
    AttachCommand command{};
    command.handle = communicator->handle;
    std::lock_guard lock(state->mutex);
    request(*state, CommandKind::kDetach, &command, sizeof(command));
  }
  delete communicator;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t communicator) {
  if (!communicator) return ncclSuccess;
  // The device process notices this and ends running operations; queued ones will do nothing. Do not wait for them:
  // they may be queued behind work of another communicator that has lost a rank too.
  let_go(*communicator, RankState::kAborted);
  delete communicator;
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t communicator, ncclResult_t* error) {
  if (!communicator || !error) return ncclInvalidArgument;
  ncclComm& c = *communicator;
  *error = c.state.load();
  if (*error != ncclSuccess) return ncclSuccess;
  if (const int found = c.segment->slot(c.rank).error.load(); found != ncclSuccess) {
    *error = static_cast<ncclResult_t>(found);
    return ncclSuccess;
  }
  complete_job(c);
  std::lock_guard lock(c.mutex);
  if (!c.waiting.empty()) {
    if (c.questions++ == 0) {
      *error = ncclInProgress;
      return ncclSuccess;
    }
    for (const ncclComm::Waiting& waiting : c.waiting) put_on_stream(c, waiting.stream, waiting.operations);
    c.waiting.clear();
  }
  cudaError_t cuda_error;
  const HostState* state = host_state(cuda_error);
  if (c.finalizing && state && c.last_number > 0 && !is_done(*state, c.last_stream, c.last_number))
    *error = ncclInProgress;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t communicator, int* count) {
  *count = communicator->ranks;
  return ncclSuccess;
}
ncclResult_t ncclCommUserRank(const ncclComm_t communicator, int* rank) {
  *rank = communicator->rank;
  return ncclSuccess;
}
ncclResult_t ncclCommCuDevice(const ncclComm_t communicator, int* device) {
  *device = communicator->device;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case ncclSystemError:
      return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclInternalError:
      return "internal error - please report this issue to the NCCL developers";
    case ncclInvalidArgument:
      return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case ncclInvalidUsage:
      return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "unknown result code";
  }
}
const char* ncclGetLastError(ncclComm_t) { return last_text; }

ncclResult_t ncclGroupStart() {
  if (group_depth++ == 0) open_group_of_makings();
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group_depth == 0) return nccl_error(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--group_depth > 0) return ncclSuccess;
  ncclResult_t result = close_group_of_makings();
  std::vector<Called> called;
  called.swap(called_in_group);
  if (const ncclResult_t error = std::exchange(first_error_in_group, ncclSuccess); error != ncclSuccess) return error;
  // All calls on one communicator are queued on the stream together.
  while (!called.empty()) {
    const ncclComm_t communicator = called.front().communicator;
    CUstream_st* stream = called.front().stream;
    std::vector<ExchangeOperation> operations;
    for (const Called& one : called) {
      if (one.communicator != communicator) continue;
      if (one.stream != stream)
        return nccl_error(ncclInvalidUsage, "one communicator on two streams in a group is not emulated");
      operations.push_back(one.operation);
    }
    std::erase_if(called, [communicator](const Called& one) { return one.communicator == communicator; });
    const ncclResult_t one = begin_or_wait(*communicator, stream, std::move(operations));
    if (one != ncclSuccess && (result == ncclSuccess || result == ncclInProgress)) result = one;
  }
  return result;
}

ncclResult_t ncclSend(const void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t communicator,
                      cudaStream_t stream) {
  return call(communicator, {ExchangeKind::kSend, type, 0, peer, data, nullptr, count}, stream);
}
ncclResult_t ncclRecv(void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t communicator,
                      cudaStream_t stream) {
  return call(communicator, {ExchangeKind::kReceive, type, 0, peer, nullptr, data, count}, stream);
}
ncclResult_t ncclAllReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t communicator, cudaStream_t stream) {
  return call(communicator, {ExchangeKind::kAllReduce, type, op, 0, send, receive, count}, stream);
}
ncclResult_t ncclReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type, ncclRedOp_t op,
                        int root, ncclComm_t communicator, cudaStream_t stream) {
  return call(communicator, {ExchangeKind::kReduce, type, op, root, send, receive, count}, stream);
}
ncclResult_t ncclReduceScatter(const void* send, void* receive, std::size_t receive_count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t communicator, cudaStream_t stream) {
  return call(communicator, {ExchangeKind::kReduceScatter, type, op, 0, send, receive, receive_count}, stream);
}
ncclResult_t ncclAllGather(const void* send, void* receive, std::size_t send_count, ncclDataType_t type,
                           ncclComm_t communicator, cudaStream_t stream) {
  return call(communicator, {ExchangeKind::kAllGather, type, 0, 0, send, receive, send_count}, stream);
}
ncclResult_t ncclBroadcast(const void* send, void* receive, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t communicator, cudaStream_t stream) {
  return call(communicator, {ExchangeKind::kBroadcast, type, 0, root, send, receive, count}, stream);
}

}  // extern "C"
