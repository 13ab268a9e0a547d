#include <cmath>
#include <numbers>

#include "runtime/reference/reference_backend.h"
#include "runtime/reference/view.h"

namespace carillon {

using reference::View;

namespace {

// z · sigmoid(g(z)) and its derivative s · (1 + z · (1 − s) · g'(z)), s = sigmoid(g(z)).
template <class A>
struct Gate {
  A value, slope;
  Gate(A z, GateActivation activation) {
    A g = z, dg = 1;
    if (activation == GateActivation::kGeluTanh) {
      const A k = 2 * std::sqrt(A(2) / std::numbers::pi_v<A>);
      g = k * (z + A(0.044715) * z * z * z);
      dg = k * (1 + 3 * A(0.044715) * z * z);
    }
    const A s = 1 / (1 + std::exp(-g));
    value = z / (1 + std::exp(-g));
    slope = s * (1 + z * (1 - s) * dg);
  }
};

}  // namespace

void ReferenceBackend::swiglu_forward(Tensor y, Tensor gate, Tensor up, GateActivation activation) {
  reference::dispatch(y.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 2> vy(y), vg(gate), vu(up);
    for (int64_t n = 0; n < vy.size(0); ++n)
      for (int64_t f = 0; f < vy.size(1); ++f) {
        const A z = static_cast<A>(vg(n, f));
        vy(n, f) = T(Gate<A>(z, activation).value * static_cast<A>(vu(n, f)));
      }
  });
}

void ReferenceBackend::swiglu_backward(Tensor dgate, Tensor dup, Tensor y, Tensor dy, Tensor gate, Tensor up,
                                       GateActivation activation) {
  reference::dispatch(dy.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 2> vdg(dgate), vdu(dup), vy(y), vdy(dy), vg(gate), vu(up);
    for (int64_t n = 0; n < vdy.size(0); ++n)
      for (int64_t f = 0; f < vdy.size(1); ++f) {
        const A z = static_cast<A>(vg(n, f)), u = static_cast<A>(vu(n, f)), d = static_cast<A>(vdy(n, f));
        const Gate<A> g(z, activation);
        vy(n, f) = T(g.value * u);
        vdg(n, f) = T(d * u * g.slope);
        vdu(n, f) = T(d * g.value);
      }
  });
}

}  // namespace carillon
