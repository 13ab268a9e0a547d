// The device side of NCCL: executes the part of a group that is on one stream, piece by piece through shared memory.
#pragma once

#include <memory>

#include "executor.h"

namespace carillon_emulation {

// kAttach, kDetach: the device process maps the communicator's segment under `handle`.
struct AttachCommand {
  std::uint64_t handle;
  int rank, ranks;
  double patience;  // seconds until a stream fails if its communicator has lost a peer and was not aborted
  char name[64];
};

enum class ExchangeKind : std::int32_t { kSend, kReceive, kAllReduce, kReduce, kAllGather, kReduceScatter, kBroadcast };

struct ExchangeOperation {
  ExchangeKind kind;
  std::int32_t type;       // ncclDataType_t
  std::int32_t reduction;  // ncclRedOp_t
  std::int32_t peer;       // or root
  const void* send;
  void* receive;
  std::uint64_t count;  // as in NCCL's call
};

// kExchange: this struct, then the operations of the group on this communicator.
struct ExchangeCommand {
  std::uint64_t handle;
  std::uint64_t turn;  // position in the order of the communicator's groups, from 0
  std::int32_t operations;
  std::int32_t padding;
};

// Returns 0 or an errno.
int attach(const AttachCommand& command);
void detach(std::uint64_t handle);

// Whether another rank waits in a group of operations that this process has not begun.
bool peers_wait();

// Whether the earlier groups of the command's communicator are done, or there is nothing left to wait for.
bool may_start(const ExchangeCommand& command);
std::unique_ptr<LongTask> start_exchange(const ExchangeCommand& command, const ExchangeOperation* operations);

std::size_t nccl_type_bytes(int type);

}  // namespace carillon_emulation
