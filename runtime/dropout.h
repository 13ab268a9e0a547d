// Which elements a dropout keeps (Srivastava et al., JMLR 2014): by counter, so a pure function of seed, stream, row
// and column. The same element is therefore dropped on every layout, by every backend, and when a pass is computed
// again; nothing is stored.
//
// Element (row, column) takes word column mod 4 of the Philox block at counter (row, column / 4) under the key
// seed ^ stream, and is dropped where that word is below the threshold.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "runtime/rng.h"

namespace carillon {

struct Dropout {
  double probability = 0;  // of an element to be dropped, in [0, 1)
  uint64_t seed = 0;
  uint64_t stream = 0;       // stream_of(a name): which dropout of a network it is
  int64_t first_column = 0;  // of the tensor's first column, where it holds some columns only

  // Probabilities are taken to the nearest 2^-32.
  uint32_t threshold() const {
    return static_cast<uint32_t>(std::min(std::nearbyint(std::ldexp(probability, 32)), 4294967295.0));
  }
  double scale() const { return 1 / (1 - probability); }  // of what is kept
};

// The words of columns 4·block … 4·block + 3.
inline std::array<uint32_t, 4> dropout_words(const Dropout& dropout, int64_t row, int64_t block) {
  return philox(dropout.seed ^ dropout.stream, static_cast<uint64_t>(row), static_cast<uint64_t>(block));
}

}  // namespace carillon
