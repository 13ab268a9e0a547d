// Address space of the devices. Each device has 64 GiB of addresses, the same in the host and the device process,
// backed by pages only where used. In the host process no byte of it may be touched; in the device process only what is
// allocated. An allocation ends (within 256 bytes) at a page that may not be touched, and addresses are used again only
// when all have been used once: so what runs over and what was freed is noticed at once.
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

// Allocates addresses of one region; touches no memory.
class AddressRange {
 public:
  void reset(char* base, std::size_t span, bool at_page_end);
  // pointer == nullptr when there is no room.
  Allocation allocate(std::size_t bytes);
  // The allocation that starts at `pointer`, removed; pointer == nullptr if none does.
  Allocation release(const void* pointer);
  // The allocation that holds the address, or nullptr.
  const Allocation* find(const void* address) const;
  bool contains(const void* address) const;
  std::size_t used_bytes() const { return used_; }

 private:
  char* base_ = nullptr;
  std::size_t span_ = 0, next_ = 0, used_ = 0;
  bool at_page_end_ = false;
  std::map<const char*, Allocation> allocations_;  // by first page
};

// A region of shared memory, `span` bytes of addresses; protection as mmap's. Exits if there is none.
struct SharedRegion {
  char* base = nullptr;
  std::size_t span = 0;
  int file = -1;
};
SharedRegion make_region(std::size_t span, int protection);
void drop_region(SharedRegion& region);

// The device process's side of kMap and kUnmap.
class MappedMemory {
 public:
  explicit MappedMemory(const SharedRegion& region) : region_(region) {}
  void map(const MapCommand& command);
  void unmap(const MapCommand& command);  // device_failure if bytes beside the allocation were written
  // What lies at an address, for messages: "12 bytes after the allocation of 64 bytes at …", into `text`.
  void describe(const void* address, char* text, std::size_t size) const;

 private:
  SharedRegion region_;
  std::map<const char*, MapCommand> mapped_;
  std::map<const char*, MapCommand> freed_;
};

}  // namespace carillon_emulation
