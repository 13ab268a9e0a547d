// Moves tensors between memory and the datasets of an HDF5 file, past HDF5. The library allocates the places out and
// keeps the metadata; the elements of a contiguous dataset are then plain bytes of the file, which we read and write in
// blocks, hashed while they are in the cache, by several threads at once. HDF5 itself is one thread and three passes
// over memory: on two cores 0.8 GB/s out and 1.1 GB/s in where this reaches what the disk gives.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/files/hdf5_file.h"
#include "parallel/shard.h"

namespace carillon {

// One rectangle on its way.
struct TensorPart {
  std::string name;  // dataset path
  StoredType type = StoredType::kFloat32;
  int64_t place = 0;  // byte of the file at which the dataset begins (Hdf5File::place_of)
  Rectangle rectangle;
  const void* from = nullptr;  // to write: packed elements of `type`
  Tensor to;                   // to read: packed, of any floating type; absent: the part is only hashed
  bool hashed = true;
  uint64_t hash = 0;  // the result: hash_rectangle of what was written or read
  // The device whose memory `from` or `to` lies in; nullptr: the host's. Such parts pass through two host buffers of
  // kStagedBytes (or one row where that is longer), one at the disk while the other is at the device.
  Backend* device = nullptr;
};
inline constexpr int64_t kStagedBytes = int64_t{64} << 20;

// Where parts go: into a file, or aside until somebody writes them there.
class TensorSink {
 public:
  virtual ~TensorSink() = default;
  // Hashes them, now or later.
  virtual void write(std::vector<TensorPart>& parts) = 0;
  // Bytes of `part` that somebody else hashed, at `place` of the file.
  virtual void write_bytes(const TensorPart& part, int64_t place, const char* data, int64_t bytes) = 0;
};

// A file whose datasets are made and closed, open to be written by any number of ranks of one machine at a time.
class TensorWriter final : public TensorSink {
 public:
  explicit TensorWriter(std::string path);  // errors as write()
  ~TensorWriter() override;
  TensorWriter(const TensorWriter&) = delete;
  // Error 74 naming tensor and reason, NoSpace where that is it. Blocks are handed to the disk as they come, so that
  // sync() finds little left.
  void write(std::vector<TensorPart>& parts) override;
  void write_bytes(const TensorPart& part, int64_t place, const char* data, int64_t bytes) override;
  void sync();

 private:
  std::string path_;
  int descriptor_ = -1;
};

// Error 65 when the file ends too early or is no regular file, 74 when the disk fails.
void read_parts(const std::string& path, std::vector<TensorPart>& parts);

}  // namespace carillon
