// HDF5 files as this project uses them: named datasets of one element type at their global shape, read and written by
// rectangles, and attributes.
//
// Writing goes through the HDF5 library and from there to the disk on a way of our own (hdf5_driver.h), every call's
// result checked. Reading does not: what a file holds is found out by a limited process (hdf5_description.h), and the
// elements are read as plain bytes.
//
// Written with library version bounds V110, so that all metadata carries checksums; payload has none, its hashes stand
// in the manifest (checkpoint.h). Files open in h5py and h5dump without help; bfloat16 is a 16-bit float type (1 sign,
// 8 exponent, 7 mantissa bits) with the attribute dtype = "bfloat16". Not thread-safe: HDF5 itself is not (Debian's
// build); threads that are ranks take turns.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/files/posix_file.h"
#include "parallel/shard.h"
#include "parallel/transport/communicator.h"
#include "runtime/tensor.h"

namespace carillon {

// Element types of a dataset. Files of others' making may hold more than we compute in.
enum class StoredType { kFloat64, kFloat32, kFloat16, kBFloat16, kInt64, kUInt32, kUInt8 };

int64_t size_of(StoredType type);
std::string name_of(StoredType type);  // "float16", …
StoredType stored_type(DType dtype);

class Hdf5File {
 public:
  struct Dataset {
    std::string name;  // "model/model.norm.weight"
    StoredType type = StoredType::kFloat32;
    std::vector<int64_t> shape;
  };

  // For reading, by this rank alone. Errors: 66 not there; 65 no regular file, no HDF5 file, damaged, or with a member
  // that is no plain array of numbers of its own (a link, another file's bytes, a size beyond the file); 74 the disk.
  static Hdf5File open(const std::string& path, Links links = Links::kFollow);
  // A new file, by one rank alone, or what was at `path` emptied. Errors 74, of them NoSpace.
  static Hdf5File create(const std::string& path);
  Hdf5File(Hdf5File&&) noexcept;
  ~Hdf5File();

  const std::string& path() const;

  // Of an opened file: all datasets below the root, by name; a scalar's shape is [1]. Error 65 naming a member that
  // cannot be read, and why.
  std::vector<Dataset> datasets() const;
  std::optional<Dataset> find(const std::string& name) const;
  void create_dataset(const Dataset& dataset);
  // The byte of the file at which the dataset's packed elements begin; nothing when they do not lie there in one piece
  // as they are (chunked, compressed, in other files).
  std::optional<int64_t> place_of(const std::string& name) const;

  // `data`: packed elements of the rectangle, of the dataset's own type. Errors 74, of a write NoSpace among them; a
  // read of a damaged dataset 65.
  void write(const std::string& name, const Rectangle& rectangle, const void* data);
  void read(const std::string& name, const Rectangle& rectangle, void* data) const;

  void set_attribute(const std::string& name, const std::string& text);  // on the root
  // The same for a few ASCII characters, kept where checksums cover them: texts of any length lie in a heap without,
  // and HDF5 1.10 crashes on a damaged one.
  void set_short_attribute(const std::string& name, const std::string& text);
  void set_dataset_attribute(const std::string& dataset, const std::string& name, const std::string& text);
  void set_bytes_attribute(const std::string& name, std::string_view bytes);  // on the root, [n] uint8
  // A text or the bytes of the root's attribute; error 65 when it is there but is something else.
  std::optional<std::string> attribute(const std::string& name) const;
  std::vector<std::string> attribute_names() const;

  // Flushes and closes, checked; without it the destructor closes and leaves errors unsaid.
  void close();

 private:
  struct State;
  explicit Hdf5File(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace carillon
