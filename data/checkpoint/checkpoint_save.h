// The stages of a save: prepare, write, commit (data/README.md, "How a checkpoint is committed"). Nothing is visible
// before the commit. In an asynchronous save (background_save.h) a separate thread copies the tensors and writes the
// copy. MPI and HDF5 are then only called in the first and the last stage, by the thread that always calls them.
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

// A private copy of everything that this rank will write.
struct CheckpointCopy {
  Buffer memory;                  // copies of this rank's tensors; bytes_for() bytes
  size_t used = 0;                // bytes of `memory`
  std::vector<TensorPart> whole;  // parts that this rank writes itself; they point into `memory`
  std::vector<char> others;       // bytes received from ranks of other machines for blocks that we own
  struct Piece {
    std::string name;
    int64_t place;
    size_t at;  // offset in `others`
    int64_t bytes;
  };
  std::vector<Piece> pieces;

  static size_t bytes_for(const std::vector<NamedShard>& shards);
  char* take(size_t bytes);  // the next free bytes of `memory`, aligned
};

// Removes folders. A folder that cannot be removed only costs space; the next save tries again.
void remove_folders(const std::vector<std::string>& paths);

class CheckpointSave {
 public:
  // `world` must outlive this object; rank 0's manifest is used.
  CheckpointSave(Communicator& world, std::string folder, Manifest manifest);
  ~CheckpointSave();
  CheckpointSave(const CheckpointSave&) = delete;

  // Creates the folder and the file without contents. Collective. Throws NoSpace and errors 73 and 74 on all ranks
  // together.
  void prepare(const std::vector<NamedShard>& shards);
  // After prepare(): copies the tensors in device memory and exchanges the bytes that other machines will write.
  // Collective.
  void begin_copy(CheckpointCopy& copy);
  // Copies the rest, which is in this rank's host memory. May be called by any thread. The shards may change
  // afterwards.
  void finish_copy(CheckpointCopy& copy);
  // Writes this rank's bytes and syncs. Without an argument it writes from the shards and is collective if several
  // machines write; with a copy it may be called by any thread. Throws this rank's own errors only.
  void write();
  void write(CheckpointCopy& copy);
  // Adds up the hashes, writes the manifest and renames the folder. `error` is what write() threw on this rank.
  // Collective; throws what prepare() throws.
  SaveResult commit(int64_t keep, int64_t best, const std::exception_ptr& error);
  // The older checkpoints that commit() renamed out of sight; empty except on rank 0. Removing them may take as long as
  // writing one.
  const std::vector<std::string>& superseded() const { return superseded_; }
  // After NoSpace: removes what was written, so that nothing has changed. Collective.
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
