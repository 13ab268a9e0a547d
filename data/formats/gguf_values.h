// Rows of float32 as GGUF stores them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "data/formats/gguf_file.h"

namespace carillon {

// The nearest float16 (IEEE binary16), ties to even; beyond 65504 an infinity.
uint16_t float16_bits(float value);

// Appends `values` as `type`. Q8_0: blocks of 32 values, each a float16 scale d = max|x| / 127 and 32 int8 round(x /
// d), halves away from zero, x divided by d as it is before it becomes a float16: ggml's reference quantisation, bit
// for bit. The first value that does not fit the type (a float16 that would be infinite); nothing when all do.
std::optional<float> append_as(GgufType type, std::span<const float> values, std::string& bytes);

// Turns the rows of queries or keys from halves to neighbours. Hugging Face's rotation pairs rows j and j + n/2 of a
// head of n rows, llama.cpp's for `llama` rows 2j and 2j + 1. `rows` are whole heads of `head` rows, `columns` wide (1
// for a bias).
void interleave_halves(std::span<float> rows, int64_t head, int64_t columns);

}  // namespace carillon
