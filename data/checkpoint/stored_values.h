// Converts stored numbers of any floating type to the type in which a run computes.
#pragma once

#include <vector>

#include "data/files/hdf5_file.h"
#include "parallel/shard.h"
#include "runtime/tensor.h"

namespace carillon {

// to[i] = from[i], converted and rounded once. `to` is packed float64, float32 or bfloat16; `from` points to packed
// elements of `type`. Throws InternalError for integer types.
void convert_stored(Tensor to, const void* from, StoredType type);

// The same into a shard's memory; device memory is filled with one upload.
void fill_shard(const NamedShard& shard, const void* from, StoredType type);

// The reverse: stores the values to `bytes`, each rounded once to `type`.
void store_values(const std::vector<double>& values, StoredType type, std::vector<char>& bytes);

// Converts float16 (IEEE binary16) to float exactly.
float float16_to_float(uint16_t bits);
// Rounds to float16: to nearest, ties to even; to infinity from 65520 on. A NaN stays a (quiet) NaN. By integers,
// because not every compiler has _Float16 for every processor (clang 14 on x86-64 has not).
uint16_t float16_of(double value);

}  // namespace carillon
