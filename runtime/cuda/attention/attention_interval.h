// The mask in a block's own coordinates. A row sees an interval of sequence indices of the other side, whose indices
// are non-decreasing, so it sees an interval of *places* there, which is found once per row. Comparing the ends of a
// tile with those of the block's first and last row then tells whether the tile is skipped, full or ragged, and two
// comparisons of 32-bit integers tell whether an element is visible. The same holds from the keys' side: the rows that
// see a key are an interval.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "runtime/cuda/attention/attention_kernels.h"
#include "runtime/cuda/ops/injected_fault.h"

namespace carillon::cuda {
namespace {

struct Interval {
  int begin, end;
};

// The first place p in [0, count] with index[p] >= value; count >= 1.
__device__ __forceinline__ int lower_bound(const int64_t* index, int count, int64_t value) {
  const int64_t smallest = index[0], largest = index[count - 1];
  if (value <= smallest) return 0;
  if (value > largest) return count;
  // Without holes from the start (contiguous ring, early half of a zigzag) or to the end (late half), no search is
  // needed.
  int low = 0, high = count - 1;  // index[low] < value <= index[high]
  const int64_t from_start = value - smallest, to_end = largest - value;
  if (from_start <= high && index[from_start - 1] < value && value <= index[from_start])
    return static_cast<int>(from_start);
  if (to_end < high && index[high - to_end - 1] < value && value <= index[high - to_end])
    return static_cast<int>(high - to_end);
  while (high - low > 1) {
    const int middle = low + (high - low) / 2;
    if (index[middle] < value)
      low = middle;
    else
      high = middle;
  }
  return high;
}

// One end of the interval of keys that `row` of sequence `batch` sees.
__device__ __forceinline__ int key_bound(const AttentionProblem& p, int64_t batch, int row, bool end) {
  const int keys = static_cast<int>(p.keys);
  if (!end) return lower_bound(p.key_index, keys, p.first[batch * p.first_batch + row]);
  const int64_t beyond = p.query_index[row] + (kBroken<InjectedFault::kMaskOffByOne> ? 2 : 1);
  return lower_bound(p.key_index, keys, beyond);
}
// One end of the interval of rows that see `key`: from the first row whose own index reaches the key's, to the last row
// whose `first` is not after it.
__device__ __forceinline__ int row_bound(const AttentionProblem& p, int64_t batch, int key, bool end) {
  const int rows = static_cast<int>(p.rows);
  const int64_t index = p.key_index[key];
  if (!end) return lower_bound(p.query_index, rows, index - (kBroken<InjectedFault::kMaskOffByOne> ? 1 : 0));
  return lower_bound(p.first + batch * p.first_batch, rows, index + 1);
}

// Tiles of the other side that a block of rows visits: [begin, end), of which [full_begin, full_end) need no mask.
struct TileRange {
  int begin, end, full_begin, full_end;
};
__device__ __forceinline__ TileRange tiles_of(Interval first_row, Interval last_row, int tile) {
  return {first_row.begin / tile, (last_row.end + tile - 1) / tile, (last_row.begin + tile - 1) / tile,
          first_row.end / tile};
}

}  // namespace
}  // namespace carillon::cuda
