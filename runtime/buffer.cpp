#include "runtime/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "runtime/available_memory.h"

namespace carillon {

Buffer Buffer::host(size_t bytes) {
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t alignment = bytes >= kHugePage ? kHugePage : Arena::kAlignment;
  const size_t rounded = (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  // The system promises more than it has, and ends the process without a word when the pages are touched.
  constexpr size_t kWorthAsking = size_t{64} << 20;
  const int64_t available = bytes >= kWorthAsking ? available_memory(Swap::kCounts) : -1;
  const bool too_much = available >= 0 && bytes > static_cast<size_t>(available);
  void* data = too_much ? nullptr : std::aligned_alloc(alignment, rounded);
  if (data == nullptr)
    fail(ExitCode::kInputOutput,
         "cannot allocate {} MiB of host memory{}, on this rank, use more ranks, a shorter sequence or recompute: full",
         bytes >> 20, too_much ? fmt::format(" ({} MiB are available)", available >> 20) : "");
  if (alignment == kHugePage) madvise(data, rounded, MADV_HUGEPAGE);
  std::memset(data, 0, rounded);
  return Buffer(data, bytes, [](void* pointer) { std::free(pointer); });
}

Tensor Arena::allocate(std::string_view name, DType dtype, std::span<const int64_t> shape) {
  const size_t begin = (used_ + kAlignment - 1) / kAlignment * kAlignment;
  // A measuring arena returns tensors with a null pointer; only their shapes are used.
  const Tensor sized(nullptr, dtype, shape);
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  const size_t bytes = static_cast<size_t>(count) * size_of(dtype);
  used_ = begin + bytes;
  peak_ = std::max(peak_, used_);
  auto it = by_name_.find(name);
  if (it == by_name_.end()) it = by_name_.emplace(std::string(name), 0).first;
  it->second += bytes;
  if (measuring_) return sized;
  CHECK(used_ <= buffer_.bytes(), "arena is too small: planned and allocated sizes differ", used_, buffer_.bytes(),
        name);
  return Tensor(static_cast<char*>(buffer_.data()) + begin, dtype, shape);
}

void Arena::advance(size_t mark) {
  CHECK(mark <= peak_, "advance to a mark never reached", mark, peak_);
  used_ = std::max(used_, mark);
}

void Arena::rewind(size_t mark) {
  CHECK(mark <= used_, "rewind to a mark not yet reached", mark, used_);
  used_ = mark;
}

}  // namespace carillon
