#include "runtime/reference/reference_backend.h"
#include "runtime/reference/view.h"

namespace carillon {

using reference::View;

void ReferenceBackend::embedding_forward(Tensor y, Tensor ids, Tensor table, int64_t first_row) {
  dispatch_floating(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const View<T, 2> vy(y), vt(table);
    const View<int64_t, 1> id(ids);
    CHECK(id.size(0) == vy.size(0) && vt.size(1) == vy.size(1), "embedding shapes", carillon::describe(y),
          carillon::describe(table));
    for (int64_t n = 0; n < vy.size(0); ++n) {
      const int64_t row = id(n) - first_row;
      const bool here = 0 <= row && row < vt.size(0);
      for (int64_t c = 0; c < vy.size(1); ++c) vy(n, c) = here ? vt(row, c) : T(0.0f);
    }
  });
}

void ReferenceBackend::embedding_backward(Tensor dtable, Tensor ids, Tensor dy, int64_t first_row) {
  reference::dispatch(dy.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 2> vy(dy);
    const View<A, 2> vt(dtable);
    const View<int64_t, 1> id(ids);
    CHECK(id.size(0) == vy.size(0) && vt.size(1) == vy.size(1), "embedding shapes", carillon::describe(dy),
          carillon::describe(dtable));
    for (int64_t n = 0; n < vy.size(0); ++n) {
      const int64_t row = id(n) - first_row;
      if (row < 0 || row >= vt.size(0)) continue;
      for (int64_t c = 0; c < vy.size(1); ++c) vt(row, c) += static_cast<A>(vy(n, c));
    }
  });
}

}  // namespace carillon
