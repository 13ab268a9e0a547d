// The device side of NCCL: what of a group runs on one stream, done piece by piece through shared memory.
#pragma once

#include <memory>

#include "executor.h"

namespace carillon_emulation {

// kAttach, kDetach: the device process maps the communicator's segment under `handle`.
struct AttachCommand {
  std::uint64_t handle;
  int rank, ranks;
  double patience;  // seconds until a stream fails whose communicator lost a peer and was not aborted
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

// kExchange: this, then the operations of the group on this communicator.
struct ExchangeCommand {
  std::uint64_t handle;
  std::uint64_t turn;  // a communicator's groups are done in the order they were called, from 0
  std::int32_t operations;
  std::int32_t padding;
};

// 0, or an errno.
int attach(const AttachCommand& command);
void detach(std::uint64_t handle);

// Whether it is this command's turn in its communicator.
bool may_start(const ExchangeCommand& command);
std::unique_ptr<LongTask> start_exchange(const ExchangeCommand& command, const ExchangeOperation* operations);

std::size_t nccl_type_bytes(int type);

}  // namespace carillon_emulation
