// What an open Hdf5File holds. Reading and writing have nothing in common but the path: see the two .cpp files.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "data/files/hdf5_description.h"
#include "data/files/hdf5_driver.h"
#include "data/files/hdf5_file.h"
#include "data/files/posix_file.h"

namespace carillon {

struct Hdf5File::State {
  std::string path;

  // Written through the library.
  int64_t file = -1;  // its hid_t
  Hdf5Disk disk;

  // Read past the library.
  std::unique_ptr<InputFile> input;
  Hdf5Description description;
  std::map<std::string, int> unpacked;  // datasets in chunks: an unnamed file with their packed elements
  std::mutex unpacking;

  ~State();
  // After a write: throws what the disk said meanwhile.
  void check_written(const std::string& what, bool good) const;
};

}  // namespace carillon
