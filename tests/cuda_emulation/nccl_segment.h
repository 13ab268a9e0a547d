// Shared memory of one communicator, mapped by the host and device process of every rank: the state of the ranks, and a
// channel for every ordered pair of ranks. It is in /dev/shm under the unique ID's name until all ranks have joined.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace carillon_emulation {

inline constexpr std::size_t kChannelBytes = 256 * 1024;

enum class RankState : std::int32_t { kAbsent, kPresent, kLeft, kAborted };

struct SplitVote {
  std::atomic<std::uint64_t> round;  // number of the split, from 1
  std::int32_t color, key;
};

struct RankSlot {
  std::atomic<RankState> state;
  std::atomic<std::int32_t> host_process, device_process;
  std::atomic<std::int32_t> device;  // equal numbers mean the same device, in any process
  std::atomic<std::uint64_t> begun;  // groups of operations that this rank's device has begun
  std::atomic<std::int32_t> error;   // ncclResult_t that this rank's device process has found
  SplitVote votes[2];                // no rank is more than one split ahead
};

// One writer, one reader; `written` and `read` count bytes since the start.
struct Channel {
  std::atomic<std::uint64_t> written, read;
  alignas(64) unsigned char bytes[kChannelBytes];
};

struct SegmentHeader {
  std::atomic<std::uint32_t> ready;
  std::int32_t ranks;
  std::atomic<std::int32_t> attached;  // ranks whose processes both map the segment
};

// The segment, mapped in this process.
class Segment {
 public:
  // Opens the segment, or creates it if this is the first rank to join. If that fails, sets errno, and ok() is false.
  Segment(const std::string& name, int ranks);
  ~Segment();
  Segment(const Segment&) = delete;

  bool ok() const { return base_ != nullptr; }
  SegmentHeader& header() const { return *static_cast<SegmentHeader*>(base_); }
  RankSlot& slot(int rank) const;
  Channel& channel(int from, int to) const;
  void unlink() const;
  // Whether the rank has joined and its processes have ended, or it has left or aborted.
  bool lost(int rank) const;

 private:
  std::string name_;
  void* base_ = nullptr;
  std::size_t bytes_ = 0;
  int ranks_;
};

// False once the process has ended, even if its exit status has not been collected.
bool process_lives(int process);

}  // namespace carillon_emulation
