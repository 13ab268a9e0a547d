// The state of an open Hdf5File. Reading and writing share only the path; see the two .cpp files.
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

  // For writing, through the library.
  int64_t file = -1;  // its hid_t
  Hdf5Disk disk;

  // For reading, without the library.
  std::unique_ptr<InputFile> input;
  Hdf5Description description;
  std::map<std::string, int> unpacked;  // per chunked dataset: an unnamed file with its packed elements
  std::mutex unpacking;

  ~State();
  // After a write: throws if the disk has reported an error or `good` is false.
  void check_written(const std::string& what, bool good) const;
};

}  // namespace carillon
