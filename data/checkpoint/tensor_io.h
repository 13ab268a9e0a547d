// Moves tensors between memory and the datasets of an HDF5 file, bypassing HDF5 for the elements. The library allocates
// the datasets and keeps the metadata. The elements of a contiguous dataset are then plain bytes of the file, which
// several threads read and write in blocks and hash while they are in the cache. HDF5 itself uses one thread and three
// passes over memory: on two cores it writes 0.8 GB/s and reads 1.1 GB/s, where this code reaches the speed of the
// disk.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/files/hdf5_file.h"
#include "parallel/shard.h"

namespace carillon {

// One rectangle to be read or written.
struct TensorPart {
  std::string name;  // dataset path
  StoredType type = StoredType::kFloat32;
  int64_t place = 0;  // byte of the file at which the dataset begins (Hdf5File::place_of)
  Rectangle rectangle;
  const void* from = nullptr;  // when writing: packed elements of `type`
  Tensor to;                   // when reading: packed, of any floating type; absent: the part is only hashed
  bool hashed = true;
  uint64_t hash = 0;  // the result: hash_rectangle of what was written or read
  // The device whose memory contains `from` or `to`; nullptr: host memory. Parts in device memory pass through two host
  // buffers of kStagedBytes (or of one row if that is longer): the disk works on one while the device works on the
  // other.
  Backend* device = nullptr;
};
inline constexpr int64_t kStagedBytes = int64_t{64} << 20;

// Destination of parts: a file, or memory from which they are written later.
class TensorSink {
 public:
  virtual ~TensorSink() = default;
  // Hashes the parts, now or later.
  virtual void write(std::vector<TensorPart>& parts) = 0;
  // Takes bytes of `part`, already hashed by the caller, for `place` in the file.
  virtual void write_bytes(const TensorPart& part, int64_t place, const char* data, int64_t bytes) = 0;
};

// A file whose datasets exist and which HDF5 has closed, open for writing by any number of ranks of one machine at a
// time.
class TensorWriter final : public TensorSink {
 public:
  explicit TensorWriter(std::string path);  // throws what write() throws
  ~TensorWriter() override;
  TensorWriter(const TensorWriter&) = delete;
  // Throws error 74 naming tensor and reason, or NoSpace if that is the reason. Starts writing blocks to disk at once,
  // so that little is left for sync().
  void write(std::vector<TensorPart>& parts) override;
  void write_bytes(const TensorPart& part, int64_t place, const char* data, int64_t bytes) override;
  void sync();

 private:
  std::string path_;
  int descriptor_ = -1;
};

// Reads the parts. Error 65 if the file is too short or not a regular file, 74 if the disk fails.
void read_parts(const std::string& path, std::vector<TensorPart>& parts);

}  // namespace carillon
