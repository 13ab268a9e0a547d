#include <cmath>

#include "runtime/reference/reference_backend.h"
#include "runtime/reference/view.h"

namespace carillon {

using reference::View;

void ReferenceBackend::swiglu_forward(Tensor y, Tensor gate, Tensor up) {
  reference::dispatch(y.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 2> vy(y), vg(gate), vu(up);
    for (int64_t n = 0; n < vy.size(0); ++n)
      for (int64_t f = 0; f < vy.size(1); ++f) {
        const A z = static_cast<A>(vg(n, f));
        vy(n, f) = T(z / (1 + std::exp(-z)) * static_cast<A>(vu(n, f)));
      }
  });
}

// With s = sigmoid(z): d silu/dz = s · (1 + z · (1 − s)).
void ReferenceBackend::swiglu_backward(Tensor dgate, Tensor dup, Tensor y, Tensor dy, Tensor gate, Tensor up) {
  reference::dispatch(dy.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 2> vdg(dgate), vdu(dup), vy(y), vdy(dy), vg(gate), vu(up);
    for (int64_t n = 0; n < vdy.size(0); ++n)
      for (int64_t f = 0; f < vdy.size(1); ++f) {
        const A z = static_cast<A>(vg(n, f)), u = static_cast<A>(vu(n, f)), d = static_cast<A>(vdy(n, f));
        const A s = 1 / (1 + std::exp(-z));
        vy(n, f) = T(z / (1 + std::exp(-z)) * u);
        vdg(n, f) = T(d * u * s * (1 + z * (1 - s)));
        vdu(n, f) = T(d * z * s);
      }
  });
}

}  // namespace carillon
