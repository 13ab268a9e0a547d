// Ranges of indices, for masks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace carillon::testing {

inline std::vector<int64_t> run(int64_t begin, int64_t end) {
  std::vector<int64_t> indices(static_cast<size_t>(end - begin));
  std::iota(indices.begin(), indices.end(), begin);
  return indices;
}
inline std::vector<int64_t> operator+(std::vector<int64_t> a, const std::vector<int64_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace carillon::testing
