#include "data/files/libraries.h"

#include <fmt/format.h>
#include <hdf5.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>
#include <xxhash.h>

namespace carillon {

std::vector<std::pair<std::string, std::string>> data_libraries() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  char pcre[64] = "";
  pcre2_config_8(PCRE2_CONFIG_VERSION, pcre);
  const unsigned hash = XXH_versionNumber();
  return {{"HDF5", fmt::format("{}.{}.{}", major, minor, release)},
          {"PCRE2", pcre},
          {"utf8proc", utf8proc_version()},
          {"xxHash", fmt::format("{}.{}.{}", hash / 10000, hash / 100 % 100, hash % 100)}};
}

}  // namespace carillon
