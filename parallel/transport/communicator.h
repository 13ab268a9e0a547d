// A group of ranks that exchange tensors. One interface for MPI (mpi_communicator.h), for ranks that are threads of one
// process (thread_communicator.h, for tests) and for a single rank (solo_communicator below). device_communicator.h
// adds a transport for tensors in a device's memory (NCCL) to any of them. Without it, tensors lie in memory the host
// can read.
//
// Rules that all implementations keep:
//  - Every rank of a group calls the same operations in the same order with the same counts.
//  - Reductions of floating-point tensors in host memory add the ranks' parts in rank order 0, 1, 2 … in the accumulate
//    type (float32 for bfloat16) and round once. So a result does not depend on message sizes and has the same bits on
//    every rank and in every run. (With Open MPI's own all_reduce the bits were measured to change with the message
//    size; see parallel/README.md.) A device transport promises less: the same bits on every rank, and from run to run
//    with the same grid, sizes, library and links. NCCL picks the order of a sum by size and topology (a ring begins
//    where each rank's share ends, a tree adds pairs) and rounds a bfloat16 sum at every hop.
//  - Work on a backend's queue and communication follow one order: an operation or exchange starts after all work put
//    on the queue before it, and work put there after it (after wait(), if it was started) sees its result. Operations
//    on host memory may assume that this work is done, because Backend::download, which wrote the memory, has waited.
//  - Any size is allowed: messages above the transport's limit (1 GiB for MPI, whose counts are 32-bit) are split.
//  - Bytes sent and calls are counted by kind of operation, so that tests can compare them with the formulas.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/tensor.h"

namespace carillon {

enum class Reduction { kSum, kMax, kMin };

// What one rank has sent over one communicator since reset_traffic(); payload bytes, copies to itself not counted.
struct Traffic {
  struct Count {
    int64_t calls = 0;
    int64_t bytes = 0;
  };
  Count all_reduce, all_gather, reduce_scatter, broadcast, shift, message;
  int64_t total_bytes() const {
    return all_reduce.bytes + all_gather.bytes + reduce_scatter.bytes + broadcast.bytes + shift.bytes + message.bytes;
  }
  int64_t total_calls() const {
    return all_reduce.calls + all_gather.calls + reduce_scatter.calls + broadcast.calls + shift.calls + message.calls;
  }
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const std::string& name() const = 0;  // the axis: "world", "dp", "cp", "tp" …, for messages and counters

  // x = reduction over ranks of x, in place. float64, float32, bfloat16 or int64, packed.
  virtual void all_reduce(Tensor x, Reduction reduction) = 0;
  // y = the ranks' x concatenated along dim 0 in rank order. Packed; counts[r] = rows of rank r; x has counts[rank()]
  // rows (0 allowed), y their sum. In the overload without counts every rank contributes x.size(0) rows.
  virtual void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) = 0;
  void all_gather(Tensor y, Tensor x) { all_gather(y, x, even(x.size(0))); }
  // y = this rank's rows of the sum over ranks of x; counts[r] = rows rank r receives. Packed.
  virtual void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) = 0;
  void reduce_scatter(Tensor y, Tensor x) { reduce_scatter(y, x, even(y.size(0))); }
  virtual void broadcast(Tensor x, int root) = 0;
  virtual void barrier() = 0;

  // An exchange or collective in flight. Compute runs between start and wait(); none of the transfer's tensors may be
  // touched until wait() returns. For tensors of a device, wait() need not block: it makes work put on the backend's
  // queue later wait. poll() lets the transport progress and may be called from compute loops. Operations started on
  // one communicator are matched in the order of their start. Transfers may be waited for in any order.
  class Transfer {
   public:
    virtual ~Transfer() = default;
    virtual void wait() = 0;
    virtual void poll() {}
  };
  // A Transfer with nothing to wait for.
  static std::unique_ptr<Transfer> finished();

  // Starts the collectives above. On tensors in host memory they do not overlap with compute: for these, and on any
  // communicator but a device's, start_… does the work at once and wait() returns immediately. Several tensors in one
  // call are several collectives (and are counted so) that begin and end together, on a device in one launch. All
  // operations of a rank run in the order of their calls, whatever their groups, so an operation may be started on the
  // result of another one that is still in flight.
  struct ReduceScatter {
    Tensor y, x;
    std::vector<int64_t> counts;
  };
  virtual std::unique_ptr<Transfer> start_all_reduces(const std::vector<Tensor>& tensors, Reduction reduction);
  virtual std::unique_ptr<Transfer> start_all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts);
  virtual std::unique_ptr<Transfer> start_reduce_scatters(const std::vector<ReduceScatter>& parts);
  std::unique_ptr<Transfer> start_all_reduce(Tensor x, Reduction reduction) {
    return start_all_reduces({x}, reduction);
  }
  std::unique_ptr<Transfer> start_all_gather(Tensor y, Tensor x) { return start_all_gather(y, x, even(x.size(0))); }
  std::unique_ptr<Transfer> start_reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) {
    return start_reduce_scatters({{y, x, counts}});
  }
  std::unique_ptr<Transfer> start_reduce_scatter(Tensor y, Tensor x) {
    return start_reduce_scatter(y, x, even(y.size(0)));
  }

  // One exchange: sends to one rank and receives from another. Either may be left out (an absent Tensor or rank -1).
  enum class Kind { kShift, kMessage };  // counted separately: hops of a ring, and single messages
  virtual std::unique_ptr<Transfer> start_exchange(Tensor send, int to, Tensor receive, int from,
                                                   Kind kind = Kind::kShift) = 0;

  // Returns a new group of the ranks that pass the same color, ordered by key. Every rank of this group must call it.
  virtual std::unique_ptr<Communicator> split(int color, int key, std::string name) = 0;

  // Checks that all ranks of the group have called the same collectives since it was made, in the same order and with
  // the same counts and types. Collective, a few microseconds: negligible once a step, and a rank that left out a
  // collective or called another one is found in the step in which it did so. Also looks for messages that no rank
  // asked for. Throws InternalError with the histories of both ranks (parallel/watch/rank_watch.h). Over MPI every
  // small collective makes the same comparison and detects a difference at once.
  void compare_histories();

  const Traffic& traffic() const { return traffic_; }
  void reset_traffic() { traffic_ = {}; }

  // Conveniences for single host numbers.
  double sum(double value) {
    all_reduce(Tensor(&value, DType::kFloat64, {1}), Reduction::kSum);
    return value;
  }
  int64_t sum(int64_t value) {
    all_reduce(Tensor(&value, DType::kInt64, {1}), Reduction::kSum);
    return value;
  }
  int64_t max(int64_t value) {
    all_reduce(Tensor(&value, DType::kInt64, {1}), Reduction::kMax);
    return value;
  }
  int64_t min(int64_t value) {
    all_reduce(Tensor(&value, DType::kInt64, {1}), Reduction::kMin);
    return value;
  }

 protected:
  // Called when a collective is about to begin. `detail`: whatever else must agree (a root, the ranks' counts).
  void note(const char* what, int64_t count, DType dtype, uint64_t detail = 0);
  static uint64_t detail_of(const std::vector<int64_t>& counts);
  uint64_t history() const { return history_; }
  [[noreturn]] void histories_differ(int other) const;
  virtual void look_for_strays() {}
  std::vector<int64_t> even(int64_t rows) const { return std::vector<int64_t>(static_cast<size_t>(size()), rows); }
  // Counts what a rank sends in the algorithms that send least: an all-reduce is a reduce-scatter and an all-gather of
  // even shares; a broadcast is one copy from the root to each other rank.
  void count_all_reduce(int64_t elements, int64_t element_bytes);
  void count_all_gather(int64_t own_bytes);
  void count_reduce_scatter(int64_t all_bytes, int64_t own_bytes);
  void count_broadcast(int64_t bytes, int root);
  void count_exchange(int64_t sent_bytes, Kind kind);
  Traffic traffic_;

 private:
  uint64_t history_ = 0;  // hash of the calls in their order
};

// The group of this rank alone: every operation is a copy or does nothing.
std::unique_ptr<Communicator> solo_communicator(std::string name);

// Calls body() on every rank and makes all of them fail together: if it throws on any rank, the Error with the highest
// exit code (ties: the lowest rank's) is thrown on every rank with that rank's message. For work that can fail on some
// ranks only and contains no collectives: reading a file, opening an output.
void agree(Communicator& group, const std::function<void()>& body);

// Broadcasts a string of any length from root.
std::string broadcast_text(Communicator& group, std::string text, int root = 0);

}  // namespace carillon
