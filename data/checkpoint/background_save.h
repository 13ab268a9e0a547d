// Checkpoints that training does not wait for: a thread of this rank copies their tensors into host memory while the
// next step computes its gradients, then hashes, writes and syncs the copy while steps go on, and at the end of a later
// step all ranks commit. Whoever changes a tensor waits for the copy first (wait_until_copied). One save is in flight
// at a time. Until the commit nothing is to be seen of it, as with any other save (checkpoint.h).
//
// The thread calls neither MPI nor HDF5. It has the priority of the rest: a lower one would save a step nothing, since
// the writer's work has to be done all the same, and makes whoever waits for it (the next save, the end, a step back,
// other ranks) wait as long as everything else on the machine likes. It could not be raised for the one who waits
// either: a process without privileges may only lower itself.
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
  // Waits for the thread. What is not committed stays behind under its temporary name, which the next start removes.
  ~BackgroundSave();
  BackgroundSave(const BackgroundSave&) = delete;

  // Takes the memory for a copy of `shards`, for all saves. Collective; empty, or why some rank cannot, on every rank.
  // Not without a fifth of it to spare: a machine that begins to swap would lose more than waiting costs.
  std::string reserve(const std::vector<NamedShard>& shards);

  // None may be in flight. Collective. `records` is called by the thread on rank 0: it makes durable what a checkpoint
  // says was written before it. Without space nothing is in flight afterwards, and why_not says so; else `saved` is
  // false too, and why_not empty. Errors as save_checkpoint.
  SaveResult begin(Manifest manifest, const std::vector<NamedShard>& shards, std::function<void()> records);

  // From begin() until it is true, the tensors of the save must not change.
  bool copied() const { return copied_.load(std::memory_order_acquire); }
  void wait_until_copied() const { copied_.wait(false, std::memory_order_acquire); }

  bool in_flight() const { return save_ != nullptr; }  // the same on every rank
  bool written() const { return written_; }            // this rank's thread has come to its end

  // Waits for the thread, and commits; the checkpoint of step `best` is not removed, and those that are, by a thread.
  // Collective. Errors as save_checkpoint, the thread's own among them.
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
  std::thread remover_;  // of older checkpoints
  std::atomic<bool> copied_{true}, written_{false};
  std::exception_ptr error_;  // the thread's, once `written`
};

}  // namespace carillon
