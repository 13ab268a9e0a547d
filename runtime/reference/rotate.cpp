#include "runtime/reference/reference_backend.h"
#include "runtime/reference/view.h"

namespace carillon {

using reference::View;

void ReferenceBackend::rotate(Tensor x, Tensor position, Tensor cosine, Tensor sine, bool inverse) {
  reference::dispatch(x.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 3> vx(x);
    const View<int64_t, 1> at(position);
    const View<A, 2> cosines(cosine), sines(sine);
    const int64_t pairs = cosines.size(1);
    CHECK(2 * pairs <= vx.size(2) && at.size(0) == vx.size(0), "rotation shapes", carillon::describe(x),
          carillon::describe(cosine));
    for (int64_t n = 0; n < vx.size(0); ++n) {
      CHECK(0 <= at(n) && at(n) < cosines.size(0), "position beyond the rotation table", at(n), cosines.size(0));
      for (int64_t h = 0; h < vx.size(1); ++h)
        for (int64_t j = 0; j < pairs; ++j) {
          const A c = cosines(at(n), j), s = inverse ? -sines(at(n), j) : sines(at(n), j);
          const A u = static_cast<A>(vx(n, h, j)), v = static_cast<A>(vx(n, h, j + pairs));
          vx(n, h, j) = T(u * c - v * s);
          vx(n, h, j + pairs) = T(v * c + u * s);
        }
    }
  });
}

// The derivative of a pair by its angle is the pair turned by a quarter: (u, v)' = (−v, u).
void ReferenceBackend::rotation_gradient(Tensor rates, Tensor x, Tensor dx, Tensor position) {
  reference::dispatch(x.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 3> vx(x), vdx(dx);
    const View<int64_t, 1> at(position);
    const View<double, 1> sums(rates);
    const int64_t pairs = sums.size(0);
    CHECK(2 * pairs <= vx.size(2) && at.size(0) == vx.size(0) && dx.shape() == x.shape(), "rotation shapes",
          carillon::describe(x), carillon::describe(rates));
    for (int64_t n = 0; n < vx.size(0); ++n)
      for (int64_t j = 0; j < pairs; ++j) {
        A row = 0;
        for (int64_t h = 0; h < vx.size(1); ++h)
          row += static_cast<A>(vx(n, h, j)) * static_cast<A>(vdx(n, h, j + pairs)) -
                 static_cast<A>(vx(n, h, j + pairs)) * static_cast<A>(vdx(n, h, j));
        sums(j) += static_cast<double>(at(n)) * static_cast<double>(row);
      }
  });
}

}  // namespace carillon
