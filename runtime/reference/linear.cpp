#include "runtime/reference/reference_backend.h"
#include "runtime/reference/view.h"

namespace carillon {

using reference::View;

void ReferenceBackend::matmul(Tensor c, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b,
                              bool accumulate) {
  CHECK(a.dtype() == b.dtype(), "matmul of two types", carillon::describe(a), carillon::describe(b));
  const bool ta = transpose_a == Transpose::kYes, tb = transpose_b == Transpose::kYes;
  const int64_t rows = c.size(0), columns = c.size(1), inner = a.size(ta ? 0 : 1);
  CHECK(a.size(ta ? 1 : 0) == rows && b.size(tb ? 0 : 1) == columns && b.size(tb ? 1 : 0) == inner, "matmul shapes",
        carillon::describe(c), carillon::describe(a), carillon::describe(b));
  reference::dispatch(a.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 2> va(a), vb(b);
    const auto into = [&]<class C>(C) {
      const View<C, 2> vc(c);
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) {
          A sum = 0;
          for (int64_t k = 0; k < inner; ++k)
            sum += static_cast<A>(ta ? va(k, i) : va(i, k)) * static_cast<A>(tb ? vb(j, k) : vb(k, j));
          vc(i, j) = C(accumulate ? static_cast<A>(vc(i, j)) + sum : sum);
        }
    };
    if (c.dtype() == a.dtype()) return into(T{});
    into(A{});
  });
}

void ReferenceBackend::add_bias(Tensor y, Tensor bias) {
  reference::dispatch(y.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 2> vy(y);
    const View<T, 1> vb(bias);
    CHECK(vb.size(0) == vy.size(1), "bias and columns differ", vb.size(0), vy.size(1));
    for (int64_t n = 0; n < vy.size(0); ++n)
      for (int64_t c = 0; c < vy.size(1); ++c) vy(n, c) = T(static_cast<A>(vy(n, c)) + static_cast<A>(vb(c)));
  });
}

void ReferenceBackend::bias_backward(Tensor dbias, Tensor dy) {
  reference::dispatch(dy.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 2> vy(dy);
    const View<A, 1> vb(dbias);
    CHECK(vb.size(0) == vy.size(1), "bias and columns differ", vb.size(0), vy.size(1));
    for (int64_t c = 0; c < vy.size(1); ++c) {
      A sum = 0;
      for (int64_t n = 0; n < vy.size(0); ++n) sum += static_cast<A>(vy(n, c));
      vb(c) += sum;
    }
  });
}

}  // namespace carillon
