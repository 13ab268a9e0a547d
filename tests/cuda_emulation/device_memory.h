// Address space of the devices. Each device has 64 GiB of addresses, the same in the host and the device process,
// backed by pages only where used. The host process cannot access them; the device process can access only allocated
// memory. An allocation ends (within 256 bytes) at an inaccessible page, and addresses are reused only after all have
// been used once, so overruns and accesses to freed memory are detected at once.
#pragma once

#include <cstddef>
#include <map>

#include "emulation/warp.h"
#include "shared_state.h"

namespace carillon_emulation {

inline constexpr std::size_t kDeviceSpan = std::size_t{64} << 30;
inline constexpr std::size_t kPageBytes = 4096;

struct Allocation {
  char* pages = nullptr;
  std::size_t page_bytes = 0;
  char* pointer = nullptr;
  std::size_t bytes = 0;
};

// Allocates addresses of one region, without accessing its memory.
class AddressRange {
 public:
  void reset(char* base, std::size_t span, bool at_page_end);
  // Returns pointer == nullptr if there is no room.
  Allocation allocate(std::size_t bytes);
  // Removes and returns the allocation that starts at `pointer`; pointer == nullptr if none does.
  Allocation release(const void* pointer);
  // The allocation that contains the address, or nullptr.
  const Allocation* find(const void* address) const;
  bool contains(const void* address) const;
  std::size_t used_bytes() const { return used_; }

 private:
  char* base_ = nullptr;
  std::size_t span_ = 0, next_ = 0, used_ = 0;
  bool at_page_end_ = false;
  std::map<const char*, Allocation> allocations_;  // by first page
};

// A region of shared memory with `span` bytes of addresses; `protection` as for mmap. Exits if it cannot be created.
struct SharedRegion {
  char* base = nullptr;
  std::size_t span = 0;
  int file = -1;
};
SharedRegion make_region(std::size_t span, int protection);
void drop_region(SharedRegion& region);

// Executes kMap and kUnmap in the device process.
class MappedMemory {
 public:
  explicit MappedMemory(const SharedRegion& region) : region_(region) {}
  void map(const MapCommand& command);
  void unmap(const MapCommand& command);  // device_failure if bytes around the allocation were written
  // Writes into `text` what is at an address, for messages: "12 bytes after the allocation of 64 bytes at …".
  void describe(const void* address, char* text, std::size_t size) const;

 private:
  SharedRegion region_;
  std::map<const char*, MapCommand> mapped_;
  std::map<const char*, MapCommand> freed_;
};

}  // namespace carillon_emulation
