#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/reference/reference_backend.h"
#include "runtime/reference/view.h"

namespace carillon {

using reference::View;

void ReferenceBackend::cross_entropy_maximum(Tensor maximum, Tensor logits) {
  reference::dispatch(logits.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 2> z(logits);
    const View<A, 1> vm(maximum);
    for (int64_t n = 0; n < z.size(0); ++n) {
      A largest = -std::numeric_limits<A>::infinity();
      for (int64_t c = 0; c < z.size(1); ++c) {
        const A value = static_cast<A>(z(n, c));
        if (value > largest || std::isnan(value)) largest = value;
        if (std::isnan(largest)) break;
      }
      vm(n) = largest;
    }
  });
}

void ReferenceBackend::cross_entropy_sums(Tensor sums, Tensor logits, Tensor maximum, Tensor target,
                                          int64_t first_column) {
  reference::dispatch(logits.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 2> z(logits);
    const View<A, 1> vm(maximum);
    const View<A, 2> vs(sums);
    const View<int64_t, 1> vt(target);
    for (int64_t n = 0; n < z.size(0); ++n) {
      A sum = 0;
      for (int64_t c = 0; c < z.size(1); ++c) sum += std::exp(static_cast<A>(z(n, c)) - vm(n));
      const int64_t column = vt(n) - first_column;
      const bool here = vt(n) >= 0 && 0 <= column && column < z.size(1);
      vs(0, n) = sum;
      vs(1, n) = here ? static_cast<A>(z(n, column)) - vm(n) : A(0);
    }
  });
}

void ReferenceBackend::cross_entropy_finish(Tensor loss, Tensor gradient, Tensor logits, Tensor maximum, Tensor sums,
                                            Tensor target, Tensor weight, int64_t first_column, double cap) {
  reference::dispatch(logits.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 2> z(logits);
    const View<A, 1> vl(loss), vm(maximum), vw(weight);
    const View<A, 2> vs(sums);
    const View<int64_t, 1> vt(target);
    for (int64_t n = 0; n < z.size(0); ++n) vl(n) = vt(n) >= 0 ? std::log(vs(0, n)) - vs(1, n) : A(0);
    if (!gradient) return;
    reference::dispatch(gradient.dtype(), [&]<class G, class GA>(G, GA) {
      const View<G, 2> g(gradient);
      std::vector<A> row(static_cast<size_t>(z.size(1)));  // the gradient may lie over the logits
      for (int64_t n = 0; n < z.size(0); ++n) {
        const bool counts = vt(n) >= 0 && vw(n) != 0;
        for (int64_t c = 0; c < z.size(1); ++c) {
          const A hot = vt(n) == first_column + c ? A(1) : A(0);
          row[static_cast<size_t>(c)] =
              counts ? vw(n) * (std::exp(static_cast<A>(z(n, c)) - vm(n)) / vs(0, n) - hot) : A(0);
          if (cap != 0) {
            const A share = static_cast<A>(z(n, c)) / static_cast<A>(cap);
            row[static_cast<size_t>(c)] *= (1 - share) * (1 + share);
          }
        }
        for (int64_t c = 0; c < z.size(1); ++c) g(n, c) = G(row[static_cast<size_t>(c)]);
      }
    });
  });
}

}  // namespace carillon
