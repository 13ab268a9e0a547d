// The device side of NCCL: what of a group runs on one stream, done piece by piece through shared memory.
#pragma once

#include <memory>

#include "executor.h"
#include "nccl_segment.h"

namespace carillon_emulation {

// kAttach, kDetach: the device process maps the communicator's segment under `handle`.
struct AttachCommand {
  std::uint64_t handle;
  int rank, ranks;
  double patience;  // seconds until a stream fails whose communicator lost a peer and was not aborted
  char name[64];
};

enum class ExchangeKind : std::int32_t { kSend, kReceive, kAllReduce, kAllGather, kReduceScatter, kBroadcast };

struct ExchangeOperation {
  ExchangeKind kind;
  std::int32_t type;  // ncclDataType_t
  std::int32_t reduction;
  std::int32_t peer;  // or root
  const void* send;
  void* receive;
  std::uint64_t count;  // as NCCL's: of the call
};

// kExchange: header, then the operations of the group on this communicator.
struct ExchangeCommand {
  std::uint64_t handle;
  std::uint64_t turn;  // the communicator's operations are done in the order they were called, from 0
  std::int32_t operations;
  std::int32_t padding;
};

// 0, or an errno. Not to be called while tasks of the communicator run.
int attach(const AttachCommand& command);
void detach(std::uint64_t handle);

// Whether it is this command's turn in its communicator.
bool may_start(const ExchangeCommand& command);
std::unique_ptr<LongTask> start_exchange(const ExchangeCommand& command, const ExchangeOperation* operations);

}  // namespace carillon_emulation
