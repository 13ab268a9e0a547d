#include "data/files/libraries.h"

#include <fmt/format.h>
#include <hdf5.h>
#include <oniguruma.h>
#include <utf8proc.h>
#include <xxhash.h>
#include <zlib.h>
#include <zstd.h>

namespace carillon {

std::vector<std::pair<std::string, std::string>> data_libraries() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  const unsigned hash = XXH_versionNumber();
  return {{"HDF5", fmt::format("{}.{}.{}", major, minor, release)},
          {"Oniguruma", onig_version()},
          {"utf8proc", utf8proc_version()},
          {"xxHash", fmt::format("{}.{}.{}", hash / 10000, hash / 100 % 100, hash % 100)},
          {"zlib", zlibVersion()},
          {"zstd", ZSTD_versionString()}};
}

}  // namespace carillon
