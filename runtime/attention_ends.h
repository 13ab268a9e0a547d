// The parts of attention_backward at its first and last block of keys (AttentionGradientEnds in backend.h), by ops of
// their own: for backends whose kernels do not contain them.
#pragma once

#include "runtime/backend.h"
#include "runtime/check.h"
#include "runtime/joined_heads.h"

namespace carillon {

// Before the block: forms delta and clears the accumulators that begin with it.
inline void begin_attention_gradients(Backend& backend, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out,
                                      Tensor delta, const AttentionGradientEnds& ends) {
  if (ends.first) backend.attention_delta(delta, dout, out);
  for (const Tensor& x : cleared_gradients(dq, dk, dv, ends.first, ends.first_keys)) backend.fill(x, 0);
}

// After the block: rounds the gradients into the results and rotates those of queries and keys back.
inline void end_attention_gradients(Backend& backend, Tensor dq, Tensor dk, Tensor dv,
                                    const AttentionGradientEnds& ends) {
  if (!ends.result_dq) return;
  const Tensor from = joined_heads({dq, dk, dv}), to = joined_heads({ends.result_dq, ends.result_dk, ends.result_dv});
  if (from && to) {
    backend.copy(to, from);
  } else {
    backend.copy(ends.result_dq, dq);
    backend.copy(ends.result_dk, dk);
    backend.copy(ends.result_dv, dv);
  }
  if (!ends.position) return;
  const Tensor turned = joined_heads({ends.result_dq, ends.result_dk});
  CHECK(turned, "gradients that are rotated back lie side by side", describe(ends.result_dq), describe(ends.result_dk));
  backend.rotate(turned, ends.position, ends.cosine, ends.sine, /*inverse=*/true);
}

}  // namespace carillon
