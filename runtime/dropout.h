// Which elements a dropout keeps (Srivastava et al., JMLR 2014): a pure function of seed, stream, row and column, by a
// counter-based generator. The same elements are therefore dropped on every layout, on every backend, and in
// recomputation; no mask is stored.
//
// Element (row, column) uses word column mod 4 of the Philox block at counter (row, column / 4) with the key
// seed ^ stream, and is dropped if that word is below the threshold.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "runtime/rng.h"

namespace carillon {

struct Dropout {
  double probability = 0;  // that an element is dropped, in [0, 1)
  uint64_t seed = 0;
  uint64_t stream = 0;       // stream_of(a name): identifies the dropout within the network
  int64_t first_column = 0;  // global index of the tensor's first column, if it holds only some of the columns

  // The probability, rounded to the nearest multiple of 2^-32.
  uint32_t threshold() const {
    return static_cast<uint32_t>(std::min(std::nearbyint(std::ldexp(probability, 32)), 4294967295.0));
  }
  double scale() const { return 1 / (1 - probability); }  // factor of the elements kept
};

// The random words of columns 4·block … 4·block + 3.
inline std::array<uint32_t, 4> dropout_words(const Dropout& dropout, int64_t row, int64_t block) {
  return philox(dropout.seed ^ dropout.stream, static_cast<uint64_t>(row), static_cast<uint64_t>(block));
}

}  // namespace carillon
