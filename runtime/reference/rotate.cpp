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

}  // namespace carillon
