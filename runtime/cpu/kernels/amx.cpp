// The kernels for amx: only bfloat16, the other types use those for avx512_bf16. Compiler flags:
// runtime/CMakeLists.txt.
#define CARILLON_KERNELS amx
#define CARILLON_VECTOR_BYTES 64
#define CARILLON_TILE_ROWS 16
#define CARILLON_TILE_VECTORS 4
#include "runtime/cpu/kernels/operand_amx.h"
#include "runtime/cpu/kernels/power_of_two_avx512.h"
#include "runtime/cpu/kernels/products_amx.h"

#include "runtime/cpu/kernels/table.h"

namespace carillon::cpu::amx {
extern const Kernels<bfloat16> brain = make_table<bfloat16>();
}
