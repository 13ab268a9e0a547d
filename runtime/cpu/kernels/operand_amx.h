// Layout of packed operands on processors that multiply tiles of bfloat16 pairs (Intel AMX): as with AVX512-BF16, but
// inner dims are multiples of a tile's 16 words.
#pragma once

#include "runtime/cpu/kernels/amx_tile.h"
#include "runtime/cpu/kernels/operand_widened.h"
#include "runtime/cpu/kernels/pairs.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

template <>
struct Operand<bfloat16> : Pairs {
  static constexpr int kGranule = amx_tile::kWords;
};

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
