#include "runtime/cpu/amx_permission.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace carillon::cpu {
namespace {

// CPUID leaves 1 and 7 (Intel's manual, volume 2).
bool processor_has_tiles() {
  constexpr unsigned kOsSavesState = 1u << 27, kBfloat16Products = 1u << 22, kTiles = 1u << 24;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsSavesState) == 0) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  return (d & kBfloat16Products) != 0 && (d & kTiles) != 0;
}

// XCR0 tells which parts of the processor's state the operating system saves.
bool system_saves_tiles() {
  constexpr uint32_t kTileConfiguration = 1u << 17, kTileData = 1u << 18;
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & kTileConfiguration) != 0 && (low & kTileData) != 0;
}

// Linux saves tiles since 5.16, and only after this request (Documentation/arch/x86/xstate.rst).
bool ask_for_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool amx_permitted() {
  static const bool permitted = processor_has_tiles() && system_saves_tiles() && ask_for_tiles();
  return permitted;
}

}  // namespace carillon::cpu
