// The random numbers of one prompt, drawn in order from a stream named by task and sample; the same on every layout and
// machine.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/tasks/retrieval.h"
#include "runtime/rng.h"

namespace carillon {

class Retrieval::Draw {
 public:
  Draw(uint64_t seed, const std::string& task, int64_t index)
      : seed_(seed), stream_(stream_of(fmt::format("{}/{}", task, index))) {}

  int64_t below(int64_t bound) {
    return static_cast<int64_t>(random_below(static_cast<uint64_t>(bound), seed_, stream_, next_++));
  }
  // Fisher-Yates, from the end.
  template <class T>
  void shuffle(std::vector<T>& values) {
    for (size_t i = values.size(); i > 1; --i)
      std::swap(values[i - 1], values[static_cast<size_t>(below(static_cast<int64_t>(i)))]);
  }

 private:
  uint64_t seed_, stream_;
  uint64_t next_ = 0;
};

}  // namespace carillon
