// GGUF version 3, llama.cpp's file format (specified in docs/gguf.md of ggml): keys, a list of tensors, and their bytes
// in one file that can be mapped. All numbers are little-endian:
//
//   "GGUF" | u32 3 | u64 tensors | u64 keys | keys | tensor descriptions | zeros to a multiple of 32 | data
//   key:     name, u32 type, value;  an array is u32 type of its elements, u64 count, elements
//   tensor:  name, u32 dims, u64 size of each dim from the fastest to the slowest, u32 type, u64 offset in the data
//   text:    u64 bytes, bytes
//
// Every tensor begins at a multiple of 32 bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace carillon {

enum class GgufType : uint32_t { kF32 = 0, kF16 = 1, kQ8_0 = 8, kBF16 = 30 };  // ggml's numbers

using GgufValue = std::variant<uint32_t, float, bool, std::string, std::vector<int32_t>, std::vector<float>,
                               std::vector<std::string>>;
using GgufKeys = std::vector<std::pair<std::string, GgufValue>>;

struct GgufDescription {
  std::string name;
  std::vector<int64_t> shape;  // [rows, columns] or [n], row-major as everywhere else
  GgufType type = GgufType::kF32;
};

// Bytes of a tensor. For Q8_0 the columns must be a multiple of 32.
int64_t gguf_bytes(const GgufDescription& tensor);

using GgufSink = std::function<void(std::string_view bytes)>;
// Writes the whole file or nothing (OutputFile). `fill(i, put)` passes tensor i's bytes to `put` piece by piece; only
// one piece is in memory at a time. Errors 73 and 74.
void write_gguf(const std::string& path, const GgufKeys& keys, const std::vector<GgufDescription>& tensors,
                const std::function<void(size_t tensor, const GgufSink& put)>& fill);

}  // namespace carillon
