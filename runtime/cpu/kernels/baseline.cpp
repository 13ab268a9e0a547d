// The kernels for baseline. Compiler flags: runtime/CMakeLists.txt.
#define CARILLON_KERNELS baseline
#define CARILLON_VECTOR_BYTES 16
#define CARILLON_TILE_ROWS 4
#define CARILLON_TILE_VECTORS 2
#include "runtime/cpu/kernels/operand_widened.h"
#include "runtime/cpu/kernels/power_of_two.h"
#include "runtime/cpu/kernels/products_registers.h"

#include "runtime/cpu/kernels/tables.h"
