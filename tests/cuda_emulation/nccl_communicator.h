// The host's side of an NCCL communicator: its coming to be (nccl_setup.cpp) and the calls on it (nccl.cpp).
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

// Of one rank. A non-blocking communicator (config.blocking = 0) is made by a thread; its calls return ncclInProgress
// and are put on the stream only at the second question for its state, so that a program that goes on before it was
// told ncclSuccess finds its operations missing. Every group of its calls has a thread, as in NCCL, which whoever asks
// for the state joins and frees without a lock (NCCL 2.27 to 2.30: comm->groupJob): two threads that ask are a race.
struct ncclComm {
  std::string name;
  int rank = 0, ranks = 0, device = 0;
  bool blocking = true;
  std::uint64_t handle = 0, turn = 0;
  std::unique_ptr<carillon_emulation::Segment> segment;
  std::atomic<ncclResult_t> state{ncclInProgress};  // of its making; then ncclSuccess, or what failed
  std::atomic<bool> give_up{false};                 // set by abort
  std::thread maker;
  std::uint64_t splits = 0;

  std::thread* job = nullptr;  // of the last group of a non-blocking communicator; guarded by nothing, see above

  std::mutex mutex;  // guards what follows, which is the emulation's own
  struct Waiting {
    CUstream_st* stream;
    std::vector<carillon_emulation::ExchangeOperation> operations;
  };
  std::vector<Waiting> waiting;  // non-blocking: called, not yet on the stream
  int questions = 0;             // asked since
  bool finalizing = false;
  int last_stream = -1;
  std::set<std::pair<bool, int>> connected;  // whether for sending, and to whom or from whom
  std::uint64_t last_number = 0;             // of the last command put on a stream
};

namespace carillon_emulation {

// Says what is wrong, for ncclGetLastError, and gives `result` back.
ncclResult_t nccl_error(ncclResult_t result, const char* format, ...) __attribute__((format(printf, 2, 3)));

// Begins to make a communicator (`parent` != nullptr: by splitting it) and waits for the end if it is a blocking one.
ncclResult_t make_communicator(ncclComm_t* made, const std::string& name, int rank, int ranks, bool blocking);
ncclResult_t split_communicator(ncclComm_t parent, int color, int key, ncclComm_t* made, bool blocking);
// Between ncclGroupStart and ncclGroupEnd communicators are begun only; this waits for them.
void open_group_of_makings();
ncclResult_t close_group_of_makings();

}  // namespace carillon_emulation
