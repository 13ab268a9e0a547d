#include "runtime/reference/reference_backend.h"
#include "runtime/reference/view.h"

namespace carillon {

void ReferenceBackend::dequantize(Tensor y, const QuantizedMatrix& x) {
  CHECK(y.rank() == 2 && y.size(0) == x.rows && y.size(1) == x.width, "dequantize shapes", carillon::describe(y),
        x.rows, x.width);
  reference::dispatch(y.dtype(), [&]<class T, class A>(T, A) {
    const reference::View<T, 2> to(y);
    const uint8_t* codes = x.codes.data<uint8_t>();
    for (int64_t row = 0; row < x.rows; ++row)
      for (int64_t column = 0; column < x.width; ++column) {
        const int64_t at = row * x.width + column, block = (x.flat(row) + column) / kQuantizedBlock;
        const int64_t scale = row * x.row_blocks() + block - x.first_block(row);
        if (x.kind == Quantization::kNf4) {
          const uint8_t code = at % 2 == 0 ? codes[at / 2] >> 4 : codes[at / 2] & 15;
          to(row, column) = T(static_cast<A>(nf4_numbers()[code]) *
                              static_cast<A>(nf4_scale(x.table.data<float>(), x.scales.data<uint8_t>()[scale], block)));
        } else {
          to(row, column) =
              T(static_cast<A>(static_cast<int8_t>(codes[at])) * static_cast<A>(x.scales.data<float>()[scale]));
        }
      }
  });
}

}  // namespace carillon
