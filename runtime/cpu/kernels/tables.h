// The tables of all types for an instruction set. Include it as table.h describes.
#include "runtime/cpu/kernels/table.h"

namespace carillon::cpu::CARILLON_KERNELS {

extern const Kernels<double> float64 = make_table<double>();
extern const Kernels<float> float32 = make_table<float>();
extern const Kernels<bfloat16> brain = make_table<bfloat16>();

}  // namespace carillon::cpu::CARILLON_KERNELS
