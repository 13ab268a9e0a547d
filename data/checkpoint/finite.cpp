#include "data/checkpoint/finite.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "runtime/error.h"

namespace carillon {
namespace {

constexpr int64_t kBlock = 4096;  // elements; a block is only searched if it contains such a value

template <class Bits>
int64_t search(const void* data, int64_t count, Bits exponent) {
  const char* bytes = static_cast<const char*>(data);
  const auto at = [&](int64_t i) {
    Bits bits;
    std::memcpy(&bits, bytes + i * static_cast<int64_t>(sizeof bits), sizeof bits);
    return bits;
  };
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, count);
    Bits found = 0;
    for (int64_t i = begin; i < end; ++i) found |= static_cast<Bits>((at(i) & exponent) == exponent);
    if (found == 0) continue;
    for (int64_t i = begin; i < end; ++i)
      if ((at(i) & exponent) == exponent) return i;
  }
  return -1;
}

}  // namespace

int64_t first_non_finite(const void* data, int64_t count, StoredType type) {
  switch (type) {
    case StoredType::kFloat64:
      return search<uint64_t>(data, count, 0x7FF0'0000'0000'0000u);
    case StoredType::kFloat32:
      return search<uint32_t>(data, count, 0x7F80'0000u);
    case StoredType::kFloat16:
      return search<uint16_t>(data, count, 0x7C00u);
    case StoredType::kBFloat16:
      return search<uint16_t>(data, count, 0x7F80u);
    case StoredType::kInt64:
    case StoredType::kUInt32:
    case StoredType::kUInt8:
      break;
  }
  return -1;
}

void refuse_non_finite(const std::string& name, const Rectangle& rectangle, const void* data, StoredType type,
                       const std::string& path) {
  int64_t found = first_non_finite(data, rectangle.count(), type);
  if (found < 0) return;
  std::vector<int64_t> index(rectangle.extent.size());
  for (size_t dim = index.size(); dim-- > 0;) {
    index[dim] = rectangle.offset[dim] + found % rectangle.extent[dim];
    found /= rectangle.extent[dim];
  }
  fail(ExitCode::kBadInput, "tensor {} holds NaN or infinity at [{}], {}, take weights from before they were lost",
       name, fmt::join(index, ", "), path);
}

}  // namespace carillon
