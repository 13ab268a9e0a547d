// The rectangle of a global tensor that a rank holds. Everything that outlives a run (checkpoints, exports, hashes)
// uses global shapes and rectangles, so that it does not depend on the layout that wrote it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/tensor.h"

namespace carillon {

class Backend;

// The half-open range [begin, end) that share `index` of `shares` gets of `total` items. Sizes differ by at most one,
// and the first total % shares are the longer ones. The one rule for vocabulary rows, MLP columns and optimizer rows.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};
constexpr Range share_of(int64_t total, int64_t shares, int64_t index) {
  const int64_t base = total / shares;
  const int64_t longer = total % shares;
  const int64_t begin = index * base + (index < longer ? index : longer);
  return {begin, begin + base + (index < longer ? 1 : 0)};
}

// A rectangle of a tensor of `global_shape` (1 or 2 dims): offset and extent per dim.
struct Rectangle {
  std::vector<int64_t> global_shape;
  std::vector<int64_t> offset;
  std::vector<int64_t> extent;

  static Rectangle whole(std::vector<int64_t> shape) { return {shape, std::vector<int64_t>(shape.size(), 0), shape}; }
  int64_t count() const {
    int64_t product = 1;
    for (int64_t size : extent) product *= size;
    return product;
  }
  bool empty() const { return count() == 0; }
};

// One rank's part of a named global tensor. Over all ranks, the rectangles with `owned` set cover the global tensor
// exactly once. A rank that only holds a replica has it unset: it reads the rectangle, but does not write or hash it.
struct NamedShard {
  std::string name;  // dataset path, "model/model.layers.0.self_attn.q_proj.weight"
  Rectangle rectangle;
  Tensor data;  // packed, of the rectangle's extent
  bool owned = true;
  Backend* device = nullptr;  // the device whose memory holds `data`; nullptr if the host can read it
};

// A stored tensor that contains several of ours, with their rows one after another.
struct FusedTensor {
  struct Part {
    std::string name;
    int64_t rows;
  };
  std::string name;
  std::vector<Part> parts;
};

}  // namespace carillon
