// The kernels for avx512_bf16. Compiler flags: runtime/CMakeLists.txt.
#define CARILLON_KERNELS avx512_bf16
#define CARILLON_VECTOR_BYTES 64
#define CARILLON_TILE_ROWS 6
#define CARILLON_TILE_VECTORS 4
#include "runtime/cpu/kernels/operand_pairs.h"
#include "runtime/cpu/kernels/power_of_two_avx512.h"
#include "runtime/cpu/kernels/products_registers.h"

#include "runtime/cpu/kernels/tables.h"
