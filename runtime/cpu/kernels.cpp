#include "runtime/cpu/kernels.h"

#include "runtime/error.h"

namespace carillon::cpu {

#define CARILLON_DECLARE(set)           \
  namespace set {                       \
  extern const Kernels<double> float64; \
  extern const Kernels<float> float32;  \
  extern const Kernels<bfloat16> brain; \
  }
CARILLON_DECLARE(baseline)
CARILLON_DECLARE(avx2)
CARILLON_DECLARE(avx512)
CARILLON_DECLARE(avx512_bf16)
#undef CARILLON_DECLARE
namespace amx {
extern const Kernels<bfloat16> brain;
}

namespace {

template <class T>
const Kernels<T>& pick(InstructionSet set, const Kernels<T>& baseline, const Kernels<T>& avx2, const Kernels<T>& avx512,
                       const Kernels<T>& avx512_bf16, const Kernels<T>& amx) {
  switch (set) {
    case InstructionSet::kBaseline:
      return baseline;
    case InstructionSet::kAvx2:
      return avx2;
    case InstructionSet::kAvx512:
      return avx512;
    case InstructionSet::kAvx512Bf16:
      return avx512_bf16;
    case InstructionSet::kAmx:
      break;
  }
  return amx;
}

}  // namespace

template <>
const Kernels<double>& kernels<double>(InstructionSet set) {
  return pick(set, baseline::float64, avx2::float64, avx512::float64, avx512_bf16::float64, avx512_bf16::float64);
}
template <>
const Kernels<float>& kernels<float>(InstructionSet set) {
  return pick(set, baseline::float32, avx2::float32, avx512::float32, avx512_bf16::float32, avx512_bf16::float32);
}
template <>
const Kernels<bfloat16>& kernels<bfloat16>(InstructionSet set) {
  return pick(set, baseline::brain, avx2::brain, avx512::brain, avx512_bf16::brain, amx::brain);
}

}  // namespace carillon::cpu
