#include "block_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cuda_bf16.h"
#include "host_state.h"

namespace carillon_emulation {
namespace {

const __nv_bfloat16* row(const BlockHeads& x, std::int64_t batch, std::int64_t token, std::int64_t head) {
  return static_cast<const __nv_bfloat16*>(x.data) + batch * x.batch + token * x.token + head * x.head;
}
__nv_bfloat16* row_out(const BlockHeads& x, std::int64_t batch, std::int64_t token, std::int64_t head) {
  return const_cast<__nv_bfloat16*>(row(x, batch, token, head));
}
float dot(const __nv_bfloat16* a, const __nv_bfloat16* b, int count) {
  float sum = 0;
  for (int i = 0; i < count; ++i) sum += __bfloat162float(a[i]) * __bfloat162float(b[i]);
  return sum;
}

float& lse_of(const BlockAttention& x, std::int64_t batch, std::int64_t head, std::int64_t token) {
  return x.lse[(batch * x.heads + head) * x.rows + token];
}

using Mistake = Options::Attention;

// The number of keys that row t sees.
std::int64_t keys_of(const BlockAttention& x, std::int64_t t) {
  return x.causal || x.mistake == Mistake::kCausal ? std::min(t + 1, x.keys) : x.keys;
}

void forward(const BlockAttention& x) {
  std::vector<float> score(static_cast<std::size_t>(x.keys)), sums(static_cast<std::size_t>(x.head_size));
  for (std::int64_t b = 0; b < x.batch; ++b)
    for (std::int64_t h = 0; h < x.heads; ++h)
      for (std::int64_t t = 0; t < x.rows; ++t) {
        const std::int64_t kv = h / (x.heads / x.kv_heads), seen = keys_of(x, t);
        float maximum = -INFINITY, sum = 0;
        for (std::int64_t s = 0; s < seen; ++s) {
          score[s] = static_cast<float>(x.scale) * dot(row(x.q, b, t, h), row(x.k, b, s, kv), x.head_size);
          maximum = std::max(maximum, score[s]);
        }
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (std::int64_t s = 0; s < seen; ++s) {
          const float weight = std::exp(score[s] - maximum);
          sum += weight;
          for (int i = 0; i < x.head_size; ++i) sums[i] += weight * __bfloat162float(row(x.v, b, s, kv)[i]);
        }
        for (int i = 0; i < x.head_size; ++i)
          row_out(x.out, b, t, h)[i] = __float2bfloat16_rn(sums[i] / sum * (x.mistake == Mistake::kOut ? 1.02f : 1.0f));
        lse_of(x, b, h, t) = maximum + std::log(sum) * (x.mistake == Mistake::kLse ? -1.0f : 1.0f);
      }
}

// Uses the given log-sum-exp, not the block's own. Rounds dk and dv of each query head before adding the heads of a
// group, as cuDNN does.
void backward(const BlockAttention& x) {
  const float dk_share = x.mistake == Mistake::kDk ? 0.9f : x.mistake == Mistake::kLost && !x.causal ? 0.0f : 1.0f;
  const auto width = static_cast<std::size_t>(x.head_size), keys = static_cast<std::size_t>(x.keys);
  for (std::int64_t b = 0; b < x.batch; ++b)
    for (std::int64_t kv = 0; kv < x.kv_heads; ++kv) {
      std::vector<float> dk(keys * width), dv(keys * width);
      for (std::int64_t h = kv * x.heads / x.kv_heads; h < (kv + 1) * x.heads / x.kv_heads; ++h) {
        std::vector<float> own_dk(keys * width), own_dv(keys * width);
        for (std::int64_t t = 0; t < x.rows; ++t) {
          const __nv_bfloat16 *q = row(x.q, b, t, h), *dout = row(x.dout, b, t, h);
          const float delta = dot(dout, row(x.out, b, t, h), x.head_size);
          float lse = lse_of(x, b, h, t);
          if (x.mistake == Mistake::kOwn) {
            float sum = 0;
            for (std::int64_t s = 0; s < keys_of(x, t); ++s)
              sum += std::exp(static_cast<float>(x.scale) * dot(q, row(x.k, b, s, kv), x.head_size));
            lse = std::log(sum);
          }
          std::vector<float> dq(width);
          for (std::int64_t s = 0; s < keys_of(x, t); ++s) {
            const __nv_bfloat16 *k = row(x.k, b, s, kv), *v = row(x.v, b, s, kv);
            const float weight = std::exp(static_cast<float>(x.scale) * dot(q, k, x.head_size) - lse);
            const float dscore = weight * (dot(dout, v, x.head_size) - delta) * static_cast<float>(x.scale);
            for (std::size_t i = 0; i < width; ++i) {
              const std::size_t at = static_cast<std::size_t>(s) * width + i;
              dq[i] += dscore * __bfloat162float(k[i]);
              own_dk[at] += dscore * __bfloat162float(q[i]);
              own_dv[at] += weight * __bfloat162float(dout[i]);
            }
          }
          std::copy(dq.begin(), dq.end(),
                    static_cast<float*>(x.dq.data) + b * x.dq.batch + t * x.dq.token + h * x.dq.head);
        }
        for (std::size_t i = 0; i < keys * width; ++i) {
          dk[i] += __bfloat162float(__float2bfloat16_rn(own_dk[i]));
          dv[i] += __bfloat162float(__float2bfloat16_rn(own_dv[i]));
        }
      }
      for (std::size_t s = 0; s < keys; ++s)
        for (std::size_t i = 0; i < width; ++i) {
          row_out(x.dk, b, static_cast<std::int64_t>(s), kv)[i] = __float2bfloat16_rn(dk[s * width + i] * (dk_share));
          row_out(x.dv, b, static_cast<std::int64_t>(s), kv)[i] = __float2bfloat16_rn(dv[s * width + i]);
        }
    }
}

void do_block_attention(const void* bytes) {
  BlockAttention block;
  std::memcpy(&block, bytes, sizeof(block));
  if (block.workspace_bytes > 0) std::memset(block.workspace, 0xFF, static_cast<std::size_t>(block.workspace_bytes));
  block.backward ? backward(block) : forward(block);
}

bool inside(const HostState& state, int device, const void* data, std::int64_t bytes) {
  const Allocation* place = state.allocation_of(data);
  return place != nullptr && state.device_of(data) == device &&
         static_cast<const char*>(data) + bytes <= place->pointer + place->bytes &&
         reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}

}  // namespace

cudaError_t start_block_attention(const BlockAttention& asked, cudaStream_t handle) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  BlockAttention block = asked;
  std::lock_guard lock(state->mutex);
  if (state->attention_calls++ >= state->options.attention_calls) block.mistake = state->options.attention;
  const CUstream_st* stream = stream_of(*state, handle);
  if (!stream) return report(cudaErrorInvalidResourceHandle);
  const auto heads = [&](const BlockHeads& x, std::int64_t rows, int count, std::int64_t bytes) {
    const std::int64_t elements =
        (block.batch - 1) * x.batch + (rows - 1) * x.token + (count - 1) * x.head + block.head_size;
    return inside(*state, stream->device, x.data, elements * bytes);
  };
  bool good = heads(block.q, block.rows, block.heads, 2) && heads(block.out, block.rows, block.heads, 2) &&
              heads(block.k, block.keys, block.kv_heads, 2) && heads(block.v, block.keys, block.kv_heads, 2) &&
              inside(*state, stream->device, block.lse, block.batch * block.heads * block.rows * 4) &&
              (block.workspace_bytes == 0 || inside(*state, stream->device, block.workspace, block.workspace_bytes));
  if (block.backward)
    good = good && heads(block.dout, block.rows, block.heads, 2) && heads(block.dq, block.rows, block.heads, 4) &&
           heads(block.dk, block.keys, block.kv_heads, 2) && heads(block.dv, block.keys, block.kv_heads, 2);
  if (!good)
    return report(cudaErrorIllegalAddress,
                  "attention: an operand is not inside one allocation of the stream's device, or not aligned");
  ++state->launches;
  const HostTaskCommand command{do_block_attention, 0};
  submit(*state, *stream, CommandKind::kHostTask, &command, sizeof(command), &block, sizeof(block));
  return cudaSuccess;
}

}  // namespace carillon_emulation
