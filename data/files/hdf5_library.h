// Shared by the two users of the HDF5 library: the code that writes our files (hdf5_file.cpp) and the restricted
// process that reads files of others (hdf5_child.cpp).
#pragma once

#include <hdf5.h>

#include <optional>
#include <utility>

#include "data/files/hdf5_file.h"

namespace carillon {

// An HDF5 identifier together with the function that closes it.
class Hdf5Handle {
 public:
  Hdf5Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Handle(const Hdf5Handle&) = delete;
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }
  operator hid_t() const { return id_; }
  bool valid() const { return id_ >= 0; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

// Must be called by each thread before it uses the library: turns off file locks, plugins and the library's own
// messages.
void prepare_hdf5();

Hdf5Handle hdf5_type(StoredType type);
// Which of our types this is bit for bit, if any.
std::optional<StoredType> known_hdf5_type(hid_t type);

}  // namespace carillon
