// The stages of a save: prepare, write, commit (data/README.md, "How a checkpoint is committed"). Between them nothing
// of it is visible. A save that training does not wait for lets a thread of its own copy what it will write, and write
// it (background_save.h); MPI and HDF5 are then called in the first and the last stage only, by the thread that calls
// them everywhere.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/tensor_io.h"
#include "data/files/posix_file.h"
#include "runtime/buffer.h"

namespace carillon {

// What a rank is to write, in memory that nobody else changes.
struct CheckpointCopy {
  Buffer memory;                  // its own tensors; bytes_for() of them
  size_t used = 0;                // of it
  std::vector<TensorPart> whole;  // those it writes itself: they point into `memory`
  std::vector<char> others;       // bytes of other machines' ranks in blocks of the file that are ours
  struct Piece {
    std::string name;
    int64_t place;
    size_t at;  // in `others`
    int64_t bytes;
  };
  std::vector<Piece> pieces;

  static size_t bytes_for(const std::vector<NamedShard>& shards);
  char* take(size_t bytes);  // the next of the memory, aligned
};

// Removes folders; what cannot be removed costs space only, and the next save tries again.
void remove_folders(const std::vector<std::string>& paths);

class CheckpointSave {
 public:
  // `world` must outlive it; the manifest is rank 0's.
  CheckpointSave(Communicator& world, std::string folder, Manifest manifest);
  ~CheckpointSave();
  CheckpointSave(const CheckpointSave&) = delete;

  // Folder and file, without contents. Collective. Throws NoSpace on every rank together, errors 73 and 74 too.
  void prepare(const std::vector<NamedShard>& shards);
  // After prepare(): copies what is on a device, and sends what other machines will write. Collective.
  void begin_copy(CheckpointCopy& copy);
  // The rest, which is in this rank's own memory, by any thread. From then on the shards may change.
  void finish_copy(CheckpointCopy& copy);
  // This rank's bytes, and syncs: from the shards, collective where several machines write; or from the copy, by any
  // thread. Errors are this rank's own.
  void write();
  void write(CheckpointCopy& copy);
  // Hashes, manifest, rename. `error` is what write() threw on this rank. Collective; throws as prepare().
  SaveResult commit(int64_t keep, int64_t best, const std::exception_ptr& error);
  // The older checkpoints that commit() has taken out of sight, on rank 0 (else empty). To remove them may take as long
  // as to write one.
  const std::vector<std::string>& superseded() const { return superseded_; }
  // After a NoSpace: everything is as before. Collective.
  SaveResult give_up(const NoSpace& lack);

 private:
  bool written_by_one_machine() const;

  Communicator& world_;
  std::string folder_, path_, temporary_;
  Manifest manifest_;
  std::vector<TensorPart> parts_;
  std::vector<std::string> dtypes_;  // of the parts
  std::vector<int> machines_;
  std::vector<std::string> superseded_;
  std::optional<TensorWriter> writer_;
};

}  // namespace carillon
