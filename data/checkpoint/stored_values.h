// Stored numbers of any floating type into the type a run computes in.
#pragma once

#include <vector>

#include "data/files/hdf5_file.h"
#include "parallel/shard.h"
#include "runtime/tensor.h"

namespace carillon {

// to[i] = from[i] converted and rounded once; `to` packed float64, float32 or bfloat16, `from` packed elements of
// `type`. InternalError for integer types.
void convert_stored(Tensor to, const void* from, StoredType type);

// The same into a shard's memory, wherever it is: a device's is filled by one upload.
void fill_shard(const NamedShard& shard, const void* from, StoredType type);

// The way back: `bytes` = the values, each rounded once to `type`.
void store_values(const std::vector<double>& values, StoredType type, std::vector<char>& bytes);

// float16 (IEEE binary16) to float, exact.
float float16_to_float(uint16_t bits);

}  // namespace carillon
