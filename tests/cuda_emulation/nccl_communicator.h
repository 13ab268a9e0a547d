// The host side of an NCCL communicator: its creation (nccl_setup.cpp) and the calls on it (nccl.cpp).
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "host_state.h"
#include "nccl.h"
#include "nccl_segment.h"
#include "nccl_task.h"

// The communicator of one rank. A non-blocking one (config.blocking = 0) is created by a thread. Its calls return
// ncclInProgress and are queued on the stream only at the second query of its state, so that a program that continues
// before it gets ncclSuccess finds its operations missing. As in NCCL, each group of its calls has a thread, which the
// thread that queries the state joins and frees without a lock (NCCL 2.27 to 2.30: comm->groupJob). Two threads that
// query are therefore a race.
struct ncclComm {
  std::string name;
  int rank = 0, ranks = 0, device = 0;
  bool blocking = true;
  std::uint64_t handle = 0, turn = 0;
  std::unique_ptr<carillon_emulation::Segment> segment;
  std::atomic<ncclResult_t> state{ncclInProgress};  // during creation; then ncclSuccess, or the failure
  std::atomic<bool> give_up{false};                 // set by abort
  std::thread maker;
  std::uint64_t splits = 0;

  std::thread* job = nullptr;  // of the last group of a non-blocking communicator; not guarded, see above

  std::mutex mutex;  // guards the members below, which exist only in the emulation
  struct Waiting {
    CUstream_st* stream;
    std::vector<carillon_emulation::ExchangeOperation> operations;
  };
  std::vector<Waiting> waiting;  // non-blocking: called, but not yet queued on the stream
  int questions = 0;             // queries of the state since then
  bool finalizing = false;
  int last_stream = -1;
  std::set<std::pair<bool, int>> connected;  // whether for sending, and the peer
  std::uint64_t last_number = 0;             // of the last command queued on a stream
};

namespace carillon_emulation {

// Stores a message for ncclGetLastError and returns `result`.
ncclResult_t nccl_error(ncclResult_t result, const char* format, ...) __attribute__((format(printf, 2, 3)));

// Start creating a communicator (split_communicator: by splitting `parent`), and wait until it is done if it is
// blocking.
ncclResult_t make_communicator(ncclComm_t* made, const std::string& name, int rank, int ranks, bool blocking);
ncclResult_t split_communicator(ncclComm_t parent, int color, int key, ncclComm_t* made, bool blocking);
// Between ncclGroupStart and ncclGroupEnd the creation of communicators is only started; close_group_of_makings() waits
// for them.
void open_group_of_makings();
ncclResult_t close_group_of_makings();

}  // namespace carillon_emulation
