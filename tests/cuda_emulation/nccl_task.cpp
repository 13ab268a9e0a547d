// Collectives in the simplest form whose result does not depend on timing: reductions add the ranks' parts in the order
// of ranks, each part on the rank that owns it. NCCL's own order differs (a ring or a tree), so tests compare within
// rounding. In a group, sends and receives run concurrently, then collectives one after another.
#include "nccl_task.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <vector>

#include "cuda_bf16.h"
#include "nccl.h"
#include "nccl_segment.h"

namespace carillon_emulation {
namespace {

struct DeviceCommunicator {
  Segment segment;
  int rank, ranks;
  double patience;
  std::uint64_t turn = 0;
  DeviceCommunicator(const AttachCommand& c)
      : segment(c.name, c.ranks), rank(c.rank), ranks(c.ranks), patience(c.patience) {}
};

std::map<std::uint64_t, std::shared_ptr<DeviceCommunicator>>& communicators() {
  static auto* all = new std::map<std::uint64_t, std::shared_ptr<DeviceCommunicator>>;
  return *all;
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// ---- reductions ----------------------------------------------------------------------------------------------------
template <class T>
T combine(T a, T b, int reduction) {
  switch (reduction) {
    case ncclProd:
      return a * b;
    case ncclMax:
      return a > b ? a : b;
    case ncclMin:
      return a < b ? a : b;
    default:
      return a + b;
  }
}

// result[i] = parts[0][i] op parts[1][i] op …; bfloat16 is combined in float32 and rounded once.
template <class T, class Sum, class Load, class Store>
void reduce_as(void* result, const std::vector<const void*>& parts, std::size_t count, int reduction, Load load,
               Store store) {
  for (std::size_t i = 0; i < count; ++i) {
    Sum sum = load(static_cast<const T*>(parts[0])[i]);
    for (std::size_t r = 1; r < parts.size(); ++r)
      sum = combine<Sum>(sum, load(static_cast<const T*>(parts[r])[i]), reduction);
    if (reduction == ncclAvg) sum = static_cast<Sum>(sum / static_cast<Sum>(parts.size()));
    static_cast<T*>(result)[i] = store(sum);
  }
}

template <class T>
void reduce_plain(void* result, const std::vector<const void*>& parts, std::size_t count, int reduction) {
  const auto same = [](T value) { return value; };
  reduce_as<T, T>(result, parts, count, reduction, same, same);
}

void reduce(int type, void* result, const std::vector<const void*>& parts, std::size_t count, int reduction) {
  switch (type) {
    case ncclFloat64:
      return reduce_plain<double>(result, parts, count, reduction);
    case ncclFloat32:
      return reduce_plain<float>(result, parts, count, reduction);
    case ncclInt64:
      return reduce_plain<std::int64_t>(result, parts, count, reduction);
    case ncclInt32:
      return reduce_plain<std::int32_t>(result, parts, count, reduction);
    case ncclUint8:
      return reduce_plain<std::uint8_t>(result, parts, count, reduction);
    case ncclBfloat16:
      return reduce_as<__nv_bfloat16, float>(result, parts, count, reduction, __bfloat162float, __float2bfloat16_rn);
    default:
      device_failure("NCCL data type %d is not emulated", type);
  }
}

// ---- transfers -----------------------------------------------------------------------------------------------------
struct Transfer {
  bool sends;
  int peer;
  unsigned char* data;
  std::size_t bytes, done = 0;
};

// Moves as many bytes as the channel accepts or has; returns true if any were moved.
bool move(const DeviceCommunicator& c, Transfer& t) {
  Channel& channel = t.sends ? c.segment.channel(c.rank, t.peer) : c.segment.channel(t.peer, c.rank);
  const std::uint64_t written = channel.written.load(), read = channel.read.load();
  const std::size_t room = t.sends ? kChannelBytes - (written - read) : written - read;
  const std::size_t at = (t.sends ? written : read) % kChannelBytes;
  const std::size_t bytes = std::min({t.bytes - t.done, room, kChannelBytes - at});
  if (bytes == 0) return false;
  if (t.sends) {
    std::memcpy(channel.bytes + at, t.data + t.done, bytes);
    channel.written.store(written + bytes);
  } else {
    std::memcpy(t.data + t.done, channel.bytes + at, bytes);
    channel.read.store(read + bytes);
  }
  t.done += bytes;
  return true;
}

// ---- one group -----------------------------------------------------------------------------------------------------
class Exchange : public LongTask {
 public:
  Exchange(std::shared_ptr<DeviceCommunicator> communicator, const ExchangeOperation* operations, int count)
      : c_(std::move(communicator)) {
    c_->segment.slot(c_->rank).begun.store(c_->turn + 1);
    for (int i = 0; i < count; ++i) {
      const ExchangeOperation& op = operations[i];
      if (op.kind == ExchangeKind::kSend)
        send(op.peer, op.send, op.count * nccl_type_bytes(op.type));
      else if (op.kind == ExchangeKind::kReceive)
        receive(op.peer, op.receive, op.count * nccl_type_bytes(op.type));
      else
        collectives_.push_back(op);
    }
  }

  bool progress() override {
    while (true) {
      if (c_->segment.slot(c_->rank).state.load() == RankState::kAborted) return end();
      if (!transfers_done()) return false;
      if (step_ == 0 && next_ == collectives_.size()) return end();
      advance();
    }
  }

 private:
  bool end() {
    ++c_->turn;
    return true;
  }

  void send(int peer, const void* data, std::size_t bytes) {
    auto* from = const_cast<unsigned char*>(static_cast<const unsigned char*>(data));
    if (bytes > 0) transfers_.push_back({true, peer, from, bytes});
  }
  void receive(int peer, void* data, std::size_t bytes) {
    if (bytes > 0) transfers_.push_back({false, peer, static_cast<unsigned char*>(data), bytes});
  }

  // Only the first unfinished transfer of each channel may move, since the peer processes them in the same order.
  bool try_transfers(bool& moved) {
    bool all = true;
    std::vector<bool> busy(static_cast<std::size_t>(2 * c_->ranks));
    for (Transfer& t : transfers_) {
      if (t.done == t.bytes) continue;
      const std::size_t channel = static_cast<std::size_t>(2 * t.peer + t.sends);
      if (busy[channel]) {
        all = false;
        continue;
      }
      while (t.done < t.bytes && move(*c_, t)) moved = true;
      if (t.done == t.bytes) continue;
      all = false;
      busy[channel] = true;
    }
    return all;
  }

  bool transfers_done() {
    bool moved = false;
    if (try_transfers(moved)) {
      transfers_.clear();
      return true;
    }
    if (!moved) look_for_lost_peers();
    return false;
  }

  // Checks whether nothing moves because a peer is gone. Data that it sent before is still in the channel, hence the
  // second try. NCCL's kernel would keep waiting, and the communicator reports ncclRemoteError until it is aborted;
  // this does the same, but only for a limited time.
  void look_for_lost_peers() {
    const double time = now();
    if (time - looked_ < 0.002) return;
    looked_ = time;
    int lost = -1;
    for (const Transfer& t : transfers_)
      if (t.done < t.bytes && c_->segment.lost(t.peer)) lost = t.peer;
    if (lost < 0) return;
    bool moved = false;
    if (try_transfers(moved) || moved) return;
    if (lost_since_ == 0) lost_since_ = time;
    c_->segment.slot(c_->rank).error.store(ncclRemoteError);
    if (time - lost_since_ > c_->patience)
      device_failure("NCCL: rank %d is gone and rank %d did not abort the communicator: a GPU would wait for ever",
                     lost, c_->rank);
  }

  // Ends the step whose transfers are done and begins the next one.
  void advance() {
    const ExchangeOperation& op = collectives_[next_];
    const std::size_t bytes = nccl_type_bytes(op.type);
    const int n = c_->ranks, me = c_->rank;
    const auto* from = static_cast<const unsigned char*>(op.send);
    auto* to = static_cast<unsigned char*>(op.receive);
    const auto finished = [this] {
      step_ = 0;
      ++next_;
    };
    switch (op.kind) {
      case ExchangeKind::kAllGather:
        if (step_++ > 0) return finished();
        if (to + me * op.count * bytes != from) std::memmove(to + me * op.count * bytes, from, op.count * bytes);
        for (int r = 0; r < n; ++r) {
          if (r == me) continue;
          send(r, from, op.count * bytes);
          receive(r, to + r * op.count * bytes, op.count * bytes);
        }
        return;
      case ExchangeKind::kBroadcast:
        if (step_++ > 0) return finished();
        if (me != op.peer) return receive(op.peer, to, op.count * bytes);
        if (to != from) std::memmove(to, from, op.count * bytes);
        for (int r = 0; r < n; ++r)
          if (r != me) send(r, from, op.count * bytes);
        return;
      case ExchangeKind::kReduce:
        if (step_++ == 0) {
          if (me != op.peer) return send(op.peer, from, op.count * bytes);
          return collect(op.count * bytes);
        }
        if (me == op.peer) reduce_parts(op, to, from, op.count);
        return finished();
      case ExchangeKind::kReduceScatter:
        if (step_++ == 0) {
          for (int r = 0; r < n; ++r)
            if (r != me) send(r, from + r * op.count * bytes, op.count * bytes);
          return collect(op.count * bytes);
        }
        reduce_parts(op, to, from + me * op.count * bytes, op.count);
        return finished();
      default:
        return all_reduce(op, bytes, finished);
    }
  }

  template <class Finished>
  void all_reduce(const ExchangeOperation& op, std::size_t bytes, Finished finished) {
    const int n = c_->ranks, me = c_->rank;
    const auto first = [&](int rank) { return op.count * static_cast<std::size_t>(rank) / n; };
    const auto* from = static_cast<const unsigned char*>(op.send);
    auto* to = static_cast<unsigned char*>(op.receive);
    const std::size_t mine = first(me + 1) - first(me);
    switch (step_++) {
      case 0:
        for (int r = 0; r < n; ++r)
          if (r != me) send(r, from + first(r) * bytes, (first(r + 1) - first(r)) * bytes);
        return collect(mine * bytes);
      case 1:
        reduce_parts(op, to + first(me) * bytes, from + first(me) * bytes, mine);
        for (int r = 0; r < n; ++r) {
          if (r == me) continue;
          send(r, to + first(me) * bytes, mine * bytes);
          receive(r, to + first(r) * bytes, (first(r + 1) - first(r)) * bytes);
        }
        return;
      default:
        return finished();
    }
  }

  // Receives this many bytes from each other rank.
  void collect(std::size_t bytes) {
    parts_.assign(static_cast<std::size_t>(c_->ranks), {});
    for (int r = 0; r < c_->ranks; ++r) {
      if (r == c_->rank) continue;
      parts_[r].resize(bytes);
      receive(r, parts_[r].data(), bytes);
    }
  }

  void reduce_parts(const ExchangeOperation& op, void* result, const void* own, std::size_t count) {
    std::vector<const void*> parts;
    for (int r = 0; r < c_->ranks; ++r) parts.push_back(r == c_->rank ? own : parts_[r].data());
    if (count > 0) reduce(op.type, result, parts, count, op.reduction);
    parts_.clear();
  }

  std::shared_ptr<DeviceCommunicator> c_;
  std::vector<Transfer> transfers_;
  std::vector<ExchangeOperation> collectives_;
  std::size_t next_ = 0;  // the current collective
  int step_ = 0;          // its step; 0: not begun
  std::vector<std::vector<unsigned char>> parts_;
  double looked_ = 0, lost_since_ = 0;
};

// The task of a communicator that was aborted or destroyed.
struct Nothing : LongTask {
  bool progress() override { return true; }
};

}  // namespace

int attach(const AttachCommand& command) {
  auto made = std::make_shared<DeviceCommunicator>(command);
  if (!made->segment.ok()) return errno != 0 ? errno : EIO;
  made->segment.slot(command.rank).device_process.store(getpid());
  communicators()[command.handle] = std::move(made);
  return 0;
}

void detach(std::uint64_t handle) { communicators().erase(handle); }

bool peers_wait() {
  for (const auto& [handle, c] : communicators())
    for (int r = 0; r < c->ranks; ++r)
      if (c->segment.slot(r).begun.load() > c->segment.slot(c->rank).begun.load()) return true;
  return false;
}

bool may_start(const ExchangeCommand& command) {
  const auto found = communicators().find(command.handle);
  return found == communicators().end() || found->second->turn == command.turn ||
         found->second->segment.slot(found->second->rank).state.load() == RankState::kAborted;
}

std::unique_ptr<LongTask> start_exchange(const ExchangeCommand& command, const ExchangeOperation* operations) {
  const auto found = communicators().find(command.handle);
  if (found == communicators().end()) return std::make_unique<Nothing>();
  return std::make_unique<Exchange>(found->second, operations, command.operations);
}

std::size_t nccl_type_bytes(int type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
    default:
      return 0;
  }
}

}  // namespace carillon_emulation
