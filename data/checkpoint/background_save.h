// Checkpoints that training does not wait for. A thread of each rank copies its tensors into host memory while the next
// step computes its gradients, then hashes, writes and syncs the copy while training continues. At the end of a later
// step all ranks commit together. Code that changes a tensor has to wait for the copy first (wait_until_copied). Only
// one save can be in flight. Nothing of it is visible before the commit, as with any other save (checkpoint.h).
//
// The thread calls neither MPI nor HDF5. It runs at normal priority. A lower priority would not make steps faster,
// because the same work has to be done anyway, and whatever waits for the writer (the next save, the end of the run, a
// step back, other ranks) would then depend on the rest of the load on the machine. The priority could not be raised
// again for such a wait: an unprivileged process can only lower its own.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "data/checkpoint/checkpoint_save.h"

namespace carillon {

class BackgroundSave {
 public:
  // `world` must outlive it.
  BackgroundSave(Communicator& world, std::string folder, int64_t keep);
  // Waits for the thread. An uncommitted checkpoint stays behind under its temporary name; the next start removes it.
  ~BackgroundSave();
  BackgroundSave(const BackgroundSave&) = delete;

  // Allocates the memory for a copy of `shards` once, for all saves. Collective. Returns an empty text, or on every
  // rank the reason why some rank cannot allocate it. Fails unless a fifth of the size remains available: a machine
  // that begins to swap loses more than waiting for saves would cost.
  std::string reserve(const std::vector<NamedShard>& shards);

  // Starts a save; none may be in flight. Collective. The thread calls `records` on rank 0 to make durable what the
  // checkpoint says was written before it. If there is no space, nothing is in flight afterwards and why_not gives the
  // reason; otherwise why_not is empty. `saved` is false in both cases. Throws what save_checkpoint throws.
  SaveResult begin(Manifest manifest, const std::vector<NamedShard>& shards, std::function<void()> records);

  // From begin() until this returns true, the tensors of the save must not change.
  bool copied() const { return copied_.load(std::memory_order_acquire); }
  void wait_until_copied() const { copied_.wait(false, std::memory_order_acquire); }

  bool in_flight() const { return save_ != nullptr; }  // the same on every rank
  bool written() const { return written_; }            // this rank's thread has finished

  // Waits for the thread and commits. Removes older checkpoints in another thread, but never the one of step `best`.
  // Collective. Throws what save_checkpoint throws, including the thread's own error.
  SaveResult finish(int64_t best = -1);

 private:
  void run(const std::function<void()>& records);
  void remove(std::vector<std::string> folders);

  Communicator& world_;
  std::string folder_;
  int64_t keep_;
  CheckpointCopy copy_;
  std::unique_ptr<CheckpointSave> save_;
  std::thread thread_;
  std::thread remover_;  // removes older checkpoints
  std::atomic<bool> copied_{true}, written_{false};
  std::exception_ptr error_;  // of the thread; valid once `written`
};

}  // namespace carillon
