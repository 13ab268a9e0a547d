// What an open Hdf5File holds. Reading and writing have nothing in common but the path: see the two .cpp files.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "data/files/hdf5_description.h"
#include "data/files/hdf5_file.h"

namespace carillon {

struct Hdf5File::State {
  std::string path;

  // Written through the library.
  int64_t file = -1;  // its hid_t
  bool collective = false;

  // Read past the library.
  int descriptor = -1;
  int64_t size = 0;
  Hdf5Description description;
  std::map<std::string, int> unpacked;  // datasets in chunks: an unnamed file with their packed elements
  std::mutex unpacking;

  ~State();
};

}  // namespace carillon
