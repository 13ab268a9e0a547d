#include <cmath>
#include <optional>

#include "runtime/reference/reference_backend.h"
#include "runtime/reference/view.h"

namespace carillon {
namespace {

using reference::View;

// Views rows as [N, H, C]; a matrix [N, C] gets H = 1.
Tensor as_heads(Tensor x) {
  if (x.rank() == 3) return x;
  CHECK(x.rank() == 2, "rows or rows of heads", describe(x));
  return x.split_dim(1, 1);
}
Tensor as_head_rows(Tensor rstd) { return rstd.rank() == 2 ? rstd : rstd.reshape({-1, 1}); }

}  // namespace

void ReferenceBackend::rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, double epsilon,
                                       const NormOptions& options) {
  reference::dispatch(x.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 3> vy(as_heads(y)), vx(as_heads(x));
    const View<A, 2> vr(as_head_rows(rstd));
    const View<T, 1> w(weight);
    const int64_t channels = vx.size(2);
    const A offset = static_cast<A>(options.weight_offset);
    const A* given = options.sums ? options.sums.span<A>().data() : nullptr;
    CHECK(w.size(0) == channels && vr.size(0) == vx.size(0) && vr.size(1) == vx.size(1), "rmsnorm shapes",
          carillon::describe(x), carillon::describe(weight), carillon::describe(rstd));
    for (int64_t n = 0; n < vx.size(0); ++n)
      for (int64_t h = 0; h < vx.size(1); ++h) {
        A sum = given != nullptr ? given[n] : A(0);
        for (int64_t c = 0; c < channels && given == nullptr; ++c)
          sum += static_cast<A>(vx(n, h, c)) * static_cast<A>(vx(n, h, c));
        const A whole = static_cast<A>(given != nullptr ? options.columns : channels);
        const A r = 1 / std::sqrt(sum / whole + static_cast<A>(epsilon));
        vr(n, h) = r;
        for (int64_t c = 0; c < channels; ++c)
          vy(n, h, c) = T(static_cast<A>(vx(n, h, c)) * r * (offset + static_cast<A>(w(c))));
      }
  });
}

void ReferenceBackend::sum_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x, Tensor branch, Tensor weight,
                                           double epsilon, const NormOptions& options) {
  this->sum(sum, x, branch);
  rmsnorm_forward(y, rstd, sum, weight, epsilon, options);
}

// With u = x·rstd and the offset in w: y = u·w, so dw = Σ dy·u and dx = rstd · (dy·w − u · mean(dy·w·u)).
void ReferenceBackend::rmsnorm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight, Tensor rstd,
                                        bool accumulate, const NormOptions& options) {
  reference::dispatch(x.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 3> vdx(as_heads(dx)), vdy(as_heads(dy)), vx(as_heads(x));
    const View<A, 2> vr(as_head_rows(rstd));
    const View<T, 1> w(weight);
    std::optional<View<A, 1>> dw;
    std::optional<View<T, 3>> again;
    if (dweight) dw.emplace(dweight);
    if (dweight && options.overwrite_weight) fill(dweight, 0);
    if (options.output) again.emplace(as_heads(options.output));
    const int64_t channels = vx.size(2);
    const A offset = static_cast<A>(options.weight_offset);
    const A* given = options.sums ? options.sums.span<A>().data() : nullptr;
    for (int64_t n = 0; n < vx.size(0); ++n)
      for (int64_t h = 0; h < vx.size(1); ++h) {
        const A r = vr(n, h);
        A mean = 0;
        for (int64_t c = 0; c < channels; ++c) {
          const A u = static_cast<A>(vx(n, h, c)) * r;
          mean += static_cast<A>(vdy(n, h, c)) * (offset + static_cast<A>(w(c))) * u;
          if (dw) (*dw)(c) += static_cast<A>(vdy(n, h, c)) * u;
        }
        mean = given != nullptr ? given[n] * r / static_cast<A>(options.columns) : mean / static_cast<A>(channels);
        for (int64_t c = 0; c < channels; ++c) {
          const A u = static_cast<A>(vx(n, h, c)) * r;
          const A before = accumulate ? static_cast<A>(vdx(n, h, c)) : A(0);
          if (again) (*again)(n, h, c) = T(u * (offset + static_cast<A>(w(c))));
          vdx(n, h, c) = T(before + r * (static_cast<A>(vdy(n, h, c)) * (offset + static_cast<A>(w(c))) - u * mean));
        }
      }
  });
}

// Nothing is left open.
void ReferenceBackend::finish_norms() {}

}  // namespace carillon
