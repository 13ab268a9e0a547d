// Finds NaN and infinity in stored weights. They are refused wherever weights are read, because every result computed
// from them would be useless. The check reads the bytes as integers (a float is finite unless all bits of its exponent
// are set) at memory speed: 5 to 20 GB/s on one core, once for every weight read.
#pragma once

#include <cstdint>
#include <string>

#include "data/files/hdf5_file.h"
#include "parallel/shard.h"

namespace carillon {

// Returns the index of the first value that is not finite; -1 if all are finite or the type is an integer.
int64_t first_non_finite(const void* data, int64_t count, StoredType type);

// Throws error 65, naming tensor and global index, if there is such a value. `data` holds the rectangle's packed
// elements.
void refuse_non_finite(const std::string& name, const Rectangle& rectangle, const void* data, StoredType type,
                       const std::string& path);

}  // namespace carillon
