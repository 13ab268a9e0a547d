#include "device_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace carillon_emulation {
namespace {

// Fills the bytes around an allocation within its pages.
constexpr unsigned char kBeside = 0xB5;

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

bool all_are(const char* begin, const char* end, unsigned char value) {
  for (; begin < end; ++begin)
    if (static_cast<unsigned char>(*begin) != value) return false;
  return true;
}

}  // namespace

void AddressRange::reset(char* base, std::size_t span, bool at_page_end) {
  *this = AddressRange{};
  base_ = base;
  span_ = span;
  at_page_end_ = at_page_end;
}

Allocation AddressRange::allocate(std::size_t bytes) {
  Allocation made;
  made.bytes = bytes;
  made.page_bytes = round_up(bytes == 0 ? 1 : bytes, kPageBytes);
  const std::size_t step = made.page_bytes + kPageBytes;  // plus one page that stays inaccessible
  // Next fit: searches from the last allocation on, then once from the start.
  for (int round = 0; round < 2 && !made.pages; ++round) {
    for (char* place = base_ + next_; place + step <= base_ + span_;) {
      auto after = allocations_.lower_bound(place);
      if (after != allocations_.begin()) {
        const Allocation& before = std::prev(after)->second;
        if (before.pages + before.page_bytes + kPageBytes > place) {
          place = before.pages + before.page_bytes + kPageBytes;
          continue;
        }
      }
      if (after != allocations_.end() && after->second.pages < place + step) {
        place = after->second.pages + after->second.page_bytes + kPageBytes;
        continue;
      }
      made.pages = place;
      break;
    }
    if (!made.pages) next_ = 0;
  }
  if (!made.pages) return {};
  next_ = static_cast<std::size_t>(made.pages - base_) + step;
  made.pointer = at_page_end_ ? made.pages + made.page_bytes - round_up(bytes == 0 ? 1 : bytes, 256) : made.pages;
  used_ += made.bytes;
  allocations_[made.pages] = made;
  return made;
}

Allocation AddressRange::release(const void* pointer) {
  const Allocation* found = find(pointer);
  if (!found || found->pointer != pointer) return {};
  const Allocation released = *found;
  used_ -= released.bytes;
  allocations_.erase(released.pages);
  return released;
}

const Allocation* AddressRange::find(const void* address) const {
  auto after = allocations_.upper_bound(static_cast<const char*>(address));
  if (after == allocations_.begin()) return nullptr;
  const Allocation& before = std::prev(after)->second;
  return address < before.pages + before.page_bytes ? &before : nullptr;
}

bool AddressRange::contains(const void* address) const {
  const char* byte = static_cast<const char*>(address);
  return byte >= base_ && byte < base_ + span_;
}

SharedRegion make_region(std::size_t span, int protection) {
  SharedRegion region;
  region.span = span;
  region.file = memfd_create("carillon-emulation", MFD_CLOEXEC);
  void* base = MAP_FAILED;
  if (region.file >= 0 && ftruncate(region.file, static_cast<off_t>(span)) == 0)
    base = mmap(nullptr, span, protection, MAP_SHARED | MAP_NORESERVE, region.file, 0);
  if (base == MAP_FAILED) {
    std::perror("emulated devices: no shared memory");
    std::_Exit(70);
  }
  region.base = static_cast<char*>(base);
  return region;
}

void drop_region(SharedRegion& region) {
  if (region.base) munmap(region.base, region.span);
  if (region.file >= 0) close(region.file);
  region = {};
}

void MappedMemory::map(const MapCommand& command) {
  char* pages = static_cast<char*>(command.pages);
  char* pointer = static_cast<char*>(command.pointer);
  mprotect(pages, command.page_bytes, PROT_READ | PROT_WRITE);
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(pages, command.page_bytes);
#endif
  const auto before = static_cast<std::size_t>(pointer - pages);
  std::memset(pages, kBeside, before);
  std::memset(pointer, 0xFF, command.bytes);
  std::memset(pointer + command.bytes, kBeside, command.page_bytes - before - command.bytes);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(pages, before);
  __asan_poison_memory_region(pointer + command.bytes, command.page_bytes - before - command.bytes);
#endif
  mapped_[pages] = command;
  freed_.erase(pages);
}

void MappedMemory::unmap(const MapCommand& command) {
  char* pages = static_cast<char*>(command.pages);
  const char* pointer = static_cast<const char*>(command.pointer);
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(pages, command.page_bytes);
#endif
  if (!all_are(pages, pointer, kBeside))
    device_failure("bytes before the allocation of %zu bytes at %p were written", command.bytes, command.pointer);
  if (!all_are(pointer + command.bytes, pages + command.page_bytes, kBeside))
    device_failure("bytes after the allocation of %zu bytes at %p were written", command.bytes, command.pointer);
  mprotect(pages, command.page_bytes, PROT_NONE);
  fallocate(region_.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pages - region_.base,
            static_cast<off_t>(command.page_bytes));
  mapped_.erase(pages);
  freed_[pages] = command;
}

void MappedMemory::describe(const void* address, char* text, std::size_t size) const {
  const char* byte = static_cast<const char*>(address);
  if (byte < region_.base || byte >= region_.base + region_.span) {
    std::snprintf(text, size, "%p is no device memory", address);
    return;
  }
  auto freed = freed_.upper_bound(byte);
  if (freed != freed_.begin() && byte < std::prev(freed)->first + std::prev(freed)->second.page_bytes) {
    const MapCommand& was = std::prev(freed)->second;
    std::snprintf(text, size, "%p is in the allocation of %zu bytes at %p that was freed", address, was.bytes,
                  was.pointer);
    return;
  }
  auto after = mapped_.upper_bound(byte);
  if (after == mapped_.begin()) {
    std::snprintf(text, size, "%p is in no allocation", address);
    return;
  }
  const MapCommand& before = std::prev(after)->second;
  std::snprintf(text, size, "%p is %td bytes after the allocation of %zu bytes at %p", address,
                byte - (static_cast<const char*>(before.pointer) + before.bytes), before.bytes, before.pointer);
}

}  // namespace carillon_emulation
