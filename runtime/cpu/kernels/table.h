// The table of all kernels of an instruction set. Each .cpp file of this folder includes it once. Before that it
// defines CARILLON_VECTOR_BYTES (width of a vector), CARILLON_TILE_ROWS (even) and CARILLON_TILE_VECTORS (size of a
// tile), and CARILLON_KERNELS (the namespace), and includes one each of operand_*.h, power_of_two*.h and products_*.h.
#include "runtime/cpu/kernels/attention_backward.h"
#include "runtime/cpu/kernels/attention_forward.h"
#include "runtime/cpu/kernels/few_rows.h"
#include "runtime/cpu/kernels/packing.h"
#include "runtime/cpu/kernels/rows.h"
#include "runtime/cpu/kernels/sums.h"
#include "runtime/cpu/kernels/update.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

template <class T>
constexpr Kernels<T> make_table() {
  using A = accumulate_t<T>;
  Kernels<T> table{};
  table.depth = Operand<T>::kDepth;
  table.granule = Operand<T>::kGranule;
  table.pack_rows = pack_rows<T>;
  table.pack_panel = pack_panel<T>;
  table.pack_lanes = pack_lanes<T>;
  table.attention_forward = attention_forward<T>;
  table.attention_backward = attention_backward<T>;
  table.update_rows = update_rows<T>;
  table.few_rows_product = few_rows_product<T>;
  table.few_rows_attention = few_rows_attention<T>;
  table.rmsnorm_forward = rmsnorm_forward<T, A>;
  table.rmsnorm_backward = rmsnorm_backward<T, A>;
  table.rotate = rotate<T, A>;
  table.swiglu_forward[0] = swiglu_forward<T, A, false>;
  table.swiglu_forward[1] = swiglu_forward<T, A, true>;
  table.swiglu_backward[0] = swiglu_backward<T, A, false>;
  table.swiglu_backward[1] = swiglu_backward<T, A, true>;
  table.add_rows = add_rows<T, A>;
  table.widen = widen<T, A>;
  table.round_scaled = round_scaled<T, A>;
  table.add_scaled = add_scaled<A>;
  table.row_dot = row_dot<T, A>;
  table.row_dot_weighted = row_dot_weighted<T, A>;
  table.row_maximum = row_maximum<A>;
  table.row_sum_exp = row_sum_exp<A>;
  table.row_softmax = row_softmax<T, A>;
  table.sum_of_squares = sum_of_squares<T>;
  table.adamw = adamw<T, A>;
  return table;
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
