// NaN and infinity among stored weights: refused wherever weights come in, since nothing that is computed from them is
// worth its time. A pass over the bytes as integers (a float is finite unless all bits of its exponent are set), at the
// speed of memory: 5 to 20 GB/s on one core, once for every weight read.
#pragma once

#include <cstdint>
#include <string>

#include "data/files/hdf5_file.h"
#include "parallel/shard.h"

namespace carillon {

// The index of the first value that is not finite; -1 when all are, and for integers.
int64_t first_non_finite(const void* data, int64_t count, StoredType type);

// Error 65 naming tensor and global index of such a value. `data`: the rectangle's packed elements.
void refuse_non_finite(const std::string& name, const Rectangle& rectangle, const void* data, StoredType type,
                       const std::string& path);

}  // namespace carillon
