#include <cmath>
#include <limits>
#include <vector>

#include "runtime/attention_ends.h"
#include "runtime/reference/reference_backend.h"
#include "runtime/reference/view.h"

namespace carillon {
namespace {

using reference::View;

// Keys [begin, end) of a block that a row sees. They are contiguous because key_index is non-decreasing.
struct Visible {
  int64_t begin;
  int64_t end;
};
Visible visible_keys(const View<int64_t, 1>& key_index, int64_t first, int64_t last) {
  Visible keys{0, 0};
  while (keys.begin < key_index.size(0) && key_index(keys.begin) < first) ++keys.begin;
  keys.end = keys.begin;
  while (keys.end < key_index.size(0) && key_index(keys.end) <= last) ++keys.end;
  return keys;
}

}  // namespace

void ReferenceBackend::attention_begin(const AttentionState& state, Tensor sinks) {
  fill(state.accumulator, 0);
  fill(state.maximum, -std::numeric_limits<double>::infinity());
  fill(state.sum, 0);
  if (!sinks) return;
  CHECK(sinks.count() == state.maximum.size(1), "one sink per head", carillon::describe(sinks),
        carillon::describe(state.maximum));
  fill(state.sum, 1);
  reference::dispatch(sinks.dtype(), [&]<class T, class A>(T, A) {
    const View<A, 3> maximum(state.maximum);
    const std::span<T> sink = sinks.span<T>();
    for (int64_t b = 0; b < maximum.size(0); ++b)
      for (int64_t h = 0; h < maximum.size(1); ++h)
        for (int64_t i = 0; i < maximum.size(2); ++i) maximum(b, h, i) = static_cast<A>(sink[static_cast<size_t>(h)]);
  });
}

// The sink's probability is exp(sink − lse) and its value 0, so d(loss)/d(sink) = −Σ p · delta.
void ReferenceBackend::attention_sinks_backward(Tensor dsinks, Tensor sinks, Tensor lse, Tensor delta) {
  reference::dispatch(sinks.dtype(), [&]<class T, class A>(T, A) {
    const View<A, 3> vl(lse), vd(delta);
    const std::span<T> sink = sinks.span<T>();
    const std::span<A> to = dsinks.span<A>();
    for (int64_t h = 0; h < vl.size(1); ++h) {
      A sum = 0;
      for (int64_t b = 0; b < vl.size(0); ++b)
        for (int64_t i = 0; i < vl.size(2); ++i)
          sum += std::exp(static_cast<A>(sink[static_cast<size_t>(h)]) - vl(b, h, i)) * vd(b, h, i);
      to[static_cast<size_t>(h)] -= sum;
    }
  });
}

void ReferenceBackend::attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v,
                                         const AttentionMask& mask, double scale, const AttentionEnds& ends) {
  if (ends.first) attention_begin(state, ends.sinks);
  reference::dispatch(q.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 4> vq(q), vk(k), vv(v);
    const View<A, 4> accumulator(state.accumulator);
    const View<A, 3> maximum(state.maximum), sum(state.sum);
    const View<int64_t, 1> query_index(mask.query_index), key_index(mask.key_index);
    const View<int64_t, 2> first(mask.first);
    const int64_t head_dim = vq.size(3), group = vq.size(2) / std::max<int64_t>(vk.size(2), 1);
    std::vector<A> score(static_cast<size_t>(vk.size(1)));
    for (int64_t b = 0; b < vq.size(0); ++b)
      for (int64_t i = 0; i < vq.size(1); ++i) {
        const Visible keys = visible_keys(key_index, first(b, i), query_index(i));
        if (keys.begin == keys.end) continue;
        for (int64_t h = 0; h < vq.size(2); ++h) {
          A largest = maximum(b, h, i);
          for (int64_t j = keys.begin; j < keys.end; ++j) {
            A dot = 0;
            for (int64_t d = 0; d < head_dim; ++d)
              dot += static_cast<A>(vq(b, i, h, d)) * static_cast<A>(vk(b, j, h / group, d));
            score[static_cast<size_t>(j)] = dot * static_cast<A>(scale);
            largest = std::max(largest, score[static_cast<size_t>(j)]);
          }
          const A shrink = std::exp(maximum(b, h, i) - largest);  // 0 the first time: the maximum was -inf
          maximum(b, h, i) = largest;
          sum(b, h, i) *= shrink;
          for (int64_t d = 0; d < head_dim; ++d) accumulator(b, i, h, d) *= shrink;
          for (int64_t j = keys.begin; j < keys.end; ++j) {
            const A p = std::exp(score[static_cast<size_t>(j)] - largest);
            sum(b, h, i) += p;
            for (int64_t d = 0; d < head_dim; ++d)
              accumulator(b, i, h, d) += p * static_cast<A>(vv(b, j, h / group, d));
          }
        }
      }
  });
  if (ends.out) attention_finish(ends.out, ends.lse, state);
}

void ReferenceBackend::attention_finish(Tensor out, Tensor lse, const AttentionState& state) {
  reference::dispatch(out.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 4> vo(out);
    const View<A, 4> accumulator(state.accumulator);
    const View<A, 3> maximum(state.maximum), sum(state.sum), vl(lse);
    for (int64_t b = 0; b < vo.size(0); ++b)
      for (int64_t i = 0; i < vo.size(1); ++i)
        for (int64_t h = 0; h < vo.size(2); ++h) {
          const bool none = sum(b, h, i) == 0;
          vl(b, h, i) = none ? -std::numeric_limits<A>::infinity() : maximum(b, h, i) + std::log(sum(b, h, i));
          for (int64_t d = 0; d < vo.size(3); ++d)
            vo(b, i, h, d) = T(none ? A(0) : accumulator(b, i, h, d) / sum(b, h, i));
        }
  });
}

void ReferenceBackend::attention_delta(Tensor delta, Tensor dout, Tensor out) {
  reference::dispatch(out.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 4> vo(out), vdo(dout);
    const View<A, 3> vd(delta);
    for (int64_t b = 0; b < vo.size(0); ++b)
      for (int64_t i = 0; i < vo.size(1); ++i)
        for (int64_t h = 0; h < vo.size(2); ++h) {
          A sum = 0;
          for (int64_t d = 0; d < vo.size(3); ++d)
            sum += static_cast<A>(vdo(b, i, h, d)) * static_cast<A>(vo(b, i, h, d));
          vd(b, h, i) = sum;
        }
  });
}

// With p = exp(score − lse), the softmax over all blocks: dv += p·do, ds = p · (do·v − delta), dq += ds·k, dk += ds·q.
void ReferenceBackend::attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout,
                                          Tensor out, Tensor lse, Tensor delta, const AttentionMask& mask, double scale,
                                          const AttentionGradientEnds& ends) {
  begin_attention_gradients(*this, dq, dk, dv, dout, out, delta, ends);
  reference::dispatch(q.dtype(), [&]<class T, class A>(T, A) {
    const View<T, 4> vq(q), vk(k), vv(v), vdo(dout);
    const View<A, 4> vdq(dq), vdk(dk), vdv(dv);
    const View<A, 3> vl(lse), vd(delta);
    const View<int64_t, 1> query_index(mask.query_index), key_index(mask.key_index);
    const View<int64_t, 2> first(mask.first);
    const int64_t head_dim = vq.size(3), group = vq.size(2) / std::max<int64_t>(vk.size(2), 1);
    for (int64_t b = 0; b < vq.size(0); ++b)
      for (int64_t i = 0; i < vq.size(1); ++i) {
        const Visible keys = visible_keys(key_index, first(b, i), query_index(i));
        for (int64_t h = 0; h < vq.size(2); ++h) {
          const int64_t g = h / group;
          if (vl(b, h, i) == -std::numeric_limits<A>::infinity()) continue;
          for (int64_t j = keys.begin; j < keys.end; ++j) {
            A dot = 0, dp = 0;
            for (int64_t d = 0; d < head_dim; ++d) {
              dot += static_cast<A>(vq(b, i, h, d)) * static_cast<A>(vk(b, j, g, d));
              dp += static_cast<A>(vdo(b, i, h, d)) * static_cast<A>(vv(b, j, g, d));
            }
            const A p = std::exp(dot * static_cast<A>(scale) - vl(b, h, i));
            const A ds = p * (dp - vd(b, h, i)) * static_cast<A>(scale);
            for (int64_t d = 0; d < head_dim; ++d) {
              vdv(b, j, g, d) += p * static_cast<A>(vdo(b, i, h, d));
              vdq(b, i, h, d) += ds * static_cast<A>(vk(b, j, g, d));
              vdk(b, j, g, d) += ds * static_cast<A>(vq(b, i, h, d));
            }
          }
        }
      }
  });
  end_attention_gradients(*this, dq, dk, dv, ends);
}

}  // namespace carillon
