// Layout of packed operands on processors that multiply vectors of bfloat16 pairs (AVX512-BF16). Other types use
// operand_widened.h.
#pragma once

#include "runtime/cpu/kernels/operand_widened.h"
#include "runtime/cpu/kernels/pairs.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

template <>
struct Operand<bfloat16> : Pairs {
  static constexpr int kGranule = 1;

  // Written in assembly because g++ 12 copies and spills the sums around the intrinsic, which halves the speed.
  static Vector<float> multiply_add(Word a, Vector<float> b, Vector<float> sum) {
    const __m512i both = _mm512_set1_epi32(static_cast<int>(a));
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(both), "v"(b));
    return sum;
  }
};

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
