#include "runtime/available_memory.h"

#include <fstream>
#include <string>

namespace carillon {

int64_t available_memory(Swap swap) {
  std::ifstream file("/proc/meminfo");
  int64_t memory = -1, swapped = 0;
  std::string word;
  for (int64_t kib = 0; file >> word;) {
    if (word == "MemAvailable:" && file >> kib) memory = kib * 1024;
    if (word == "SwapFree:" && file >> kib) swapped = kib * 1024;
  }
  return memory < 0 || swap == Swap::kLeftOut ? memory : memory + swapped;
}

}  // namespace carillon
