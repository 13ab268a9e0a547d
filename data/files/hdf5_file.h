// HDF5 files as this project uses them: named datasets of one element type at their global shape, read and written by
// rectangles, and attributes.
//
// Writing goes through the HDF5 library and our own driver to the disk (hdf5_driver.h); the result of every call is
// checked. Reading does not use the library in this process: a restricted process determines what the file contains
// (hdf5_description.h), and the elements are read as plain bytes.
//
// Files are written with library version bounds V110, so that all metadata has checksums. The elements have none; their
// hashes are in the manifest (checkpoint.h). h5py and h5dump can open the files; bfloat16 is a 16-bit float type (1
// sign, 8 exponent, 7 mantissa bits) with the attribute dtype = "bfloat16". Not thread-safe, as HDF5 itself is not (in
// Debian's build); threads that act as ranks take turns.
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

// Element types of a dataset. Files of others may have types in which we do not compute.
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

  // Opens a file for reading, by this rank alone. Errors: 66 if it does not exist; 65 if it is not a regular file or
  // not an HDF5 file, is damaged, or has a member that is not a plain array of numbers in this file (a link, external
  // storage, a size beyond the file); 74 if the disk fails.
  static Hdf5File open(const std::string& path, Links links = Links::kFollow);
  // Creates a file, by one rank alone, or truncates an existing one. Errors 74, including NoSpace.
  static Hdf5File create(const std::string& path);
  Hdf5File(Hdf5File&&) noexcept;
  ~Hdf5File();

  const std::string& path() const;

  // Of an opened file: all datasets below the root, by name; a scalar has the shape [1]. Error 65 naming a member that
  // cannot be read, and why.
  std::vector<Dataset> datasets() const;
  std::optional<Dataset> find(const std::string& name) const;
  void create_dataset(const Dataset& dataset);
  // The byte of the file at which the dataset's packed elements begin; nothing if they are not stored contiguously
  // (chunked, compressed, in other files).
  std::optional<int64_t> place_of(const std::string& name) const;

  // `data` points to packed elements of the rectangle, of the dataset's own type. Error 74 (for a write possibly
  // NoSpace); 65 for reading a damaged dataset.
  void write(const std::string& name, const Rectangle& rectangle, const void* data);
  void read(const std::string& name, const Rectangle& rectangle, void* data) const;

  void set_attribute(const std::string& name, const std::string& text);  // on the root
  // The same for a few ASCII characters, stored where checksums cover them. Texts of any length are stored in a heap
  // without checksums, and HDF5 1.10 crashes on a damaged heap.
  void set_short_attribute(const std::string& name, const std::string& text);
  void set_dataset_attribute(const std::string& dataset, const std::string& name, const std::string& text);
  void set_bytes_attribute(const std::string& name, std::string_view bytes);  // on the root, [n] uint8
  // The text or the bytes of an attribute of the root; error 65 if the attribute exists but is something else.
  std::optional<std::string> attribute(const std::string& name) const;
  std::vector<std::string> attribute_names() const;

  // Flushes and closes with all checks; otherwise the destructor closes and ignores errors.
  void close();

 private:
  struct State;
  explicit Hdf5File(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace carillon
