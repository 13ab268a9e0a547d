// The kernels for avx2. Compiler flags: runtime/CMakeLists.txt.
#define CARILLON_KERNELS avx2
#define CARILLON_VECTOR_BYTES 32
#define CARILLON_TILE_ROWS 6
#define CARILLON_TILE_VECTORS 2
#include "runtime/cpu/kernels/operand_widened.h"
#include "runtime/cpu/kernels/power_of_two.h"
#include "runtime/cpu/kernels/products_registers.h"

#include "runtime/cpu/kernels/tables.h"
