// Converts rows of float32 to the types of a GGUF.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "data/formats/gguf_file.h"

namespace carillon {

// The nearest float16 (IEEE binary16), ties to even; infinity from 65520 on.
uint16_t float16_bits(float value);

// Appends `values` as `type`. Q8_0 has blocks of 32 values: a float16 scale d = max|x| / 127 and 32 int8 round(x / d).
// Halves round away from zero, and x is divided by d before d is rounded to float16. This is ggml's reference
// quantisation, bit for bit. Returns the first value that does not fit the type (as float16 it would be infinite), if
// any.
std::optional<float> append_as(GgufType type, std::span<const float> values, std::string& bytes);

// Reorders the rows of queries or keys from halves to neighbours. Hugging Face's rotation pairs rows j and j + n/2 of a
// head of n rows; llama.cpp's rotation for `llama` pairs rows 2j and 2j + 1. `rows` are whole heads of `head` rows,
// `columns` wide (1 for a bias).
void interleave_halves(std::span<float> rows, int64_t head, int64_t columns);

}  // namespace carillon
