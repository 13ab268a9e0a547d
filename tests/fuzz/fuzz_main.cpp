// The entry points of libFuzzer for all targets of this program: CARILLON_FUZZ_TARGET names the target to run.
//   CARILLON_FUZZ_LIST=1                         prints the names of the targets, one per line
//   CARILLON_FUZZ_SEEDS=FOLDER CARILLON_SOURCE=… writes the target's first inputs there
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "tests/fuzz/target.h"

namespace {

using namespace carillon::fuzz;

const Target* chosen = nullptr;

const char* setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void write_seeds(const std::string& folder) {
  int number = 0;
  for (const std::string& seed : chosen->seeds(setting("CARILLON_SOURCE")))
    std::ofstream(folder + "/seed-" + std::to_string(number++), std::ios::binary) << seed;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  static const std::vector<Target> all = targets();
  if (*setting("CARILLON_FUZZ_LIST") != '\0') {
    for (const Target& target : all) std::puts(target.name.c_str());
    std::exit(0);
  }
  for (const Target& target : all)
    if (target.name == setting("CARILLON_FUZZ_TARGET")) chosen = &target;
  if (chosen == nullptr) {
    std::fprintf(stderr, "CARILLON_FUZZ_TARGET names no target; CARILLON_FUZZ_LIST=1 lists them\n");
    std::exit(64);
  }
  begin();
  if (const std::string folder = setting("CARILLON_FUZZ_SEEDS"); !folder.empty()) {
    write_seeds(folder);
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  run_target(*chosen, {reinterpret_cast<const char*>(data), size});
  return 0;
}
