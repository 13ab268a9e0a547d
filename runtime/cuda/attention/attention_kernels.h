// The launch functions of attention_*.cu, with plain pointers, sizes and strides (no Tensor, no fmt, so that nvcc is
// fast). Meanings and shapes are those of the attention ops of runtime/backend.h; CudaBackend has checked them. Every
// function queues its kernels on `stream` and returns the runtime's result at once; with nothing to do it succeeds
// without a launch.
//
// Which kernels run: tensor cores for bfloat16 with heads of 64, 96 or 128 whose q, k, v (and dout) allow 16-byte
// copies; everything else, heads up to 256, on tiles in shared memory (attention_general.cu), which handle every shape
// but are not fast.
//
// Deterministic: no atomics; each element of the state, of dq, dk and dv is written by one thread, which adds in the
// order of the other side's rows.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "runtime/cuda/ops/kernels.h"

namespace carillon::cuda {

// A tensor [B, T, heads, HD]; strides in elements, the last dim packed.
struct HeadsView {
  void* data = nullptr;
  int64_t batch = 0, token = 0, head = 0;
};
// A tensor [B, NH, T] of type A; strides in elements, the last dim packed.
struct StatisticView {
  void* data = nullptr;
  int64_t batch = 0, head = 0;
};

// One call's sizes and inputs. The mask is the interval of AttentionMask, its rows non-decreasing.
struct AttentionProblem {
  Type type = Type::kFloat32;             // the compute type
  int64_t batch = 0, rows = 0, keys = 0;  // B, Tq, Tk: the last two below 2^31 - 256
  int heads = 0, kv_heads = 0, head_size = 0;
  double scale = 1;  // of the scores
  HeadsView q, k, v;
  const int64_t* query_index = nullptr;  // [Tq]
  const int64_t* first = nullptr;        // [B, Tq], batches first_batch elements apart
  int64_t first_batch = 0;
  const int64_t* key_index = nullptr;  // [Tk]
};
struct AttentionForward {
  AttentionProblem problem;
  HeadsView accumulator;  // A
  StatisticView maximum, sum;
  // The first block: the state holds nothing yet, or a sink a head (T; null: none).
  bool first = false;
  const void* sinks = nullptr;
  // The last: T, and A. No data: not the last; else the state is not written.
  HeadsView out = {};
  StatisticView lse = {};
};
// The rotation that gradients by queries and keys are turned back by; a row's position is that of its token.
struct AttentionTurn {
  const int64_t* position = nullptr;              // [B·T]; null: not turned
  const void *cosine = nullptr, *sine = nullptr;  // [table_rows, pairs] of A, packed
  int64_t table_rows = 0;
  int pairs = 0;
};
struct AttentionBackward {
  AttentionProblem problem;
  HeadsView dq, dk, dv;  // A, added to
  HeadsView dout;        // T
  StatisticView lse, delta;
  // The first block: delta is formed from dout and out, T, and dq written.
  bool first = false;
  HeadsView out = {};
  bool first_keys = false;  // dk and dv are written
  // The only one: T, in place of dq, dk and dv. No data: it is not.
  HeadsView result_dq = {}, result_dk = {}, result_dv = {};
  AttentionTurn turn = {};  // of the results
};
// Sizes of a state, for begin, finish and delta.
struct AttentionRows {
  Type type = Type::kFloat32;
  int64_t batch = 0, rows = 0;
  int heads = 0, head_size = 0;
};

// Sets maximum = -inf, sum = 0; leaves the accumulator unchanged, since it is not read while the sum is 0. With sinks
// [heads] of sink_type: maximum is the head's sink, sum 1, and the accumulator must already be 0.
cudaError_t launch_attention_begin(const AttentionRows& shape, StatisticView maximum, StatisticView sum,
                                   const void* sinks, Type sink_type, cudaStream_t stream);
// dsinks [heads] (A) −= Σ exp(sink − lse) · delta; sinks of shape.type.
cudaError_t launch_attention_sinks_backward(const AttentionRows& shape, void* dsinks, const void* sinks,
                                            StatisticView lse, StatisticView delta, cudaStream_t stream);
cudaError_t launch_attention_forward(const AttentionForward& args, cudaStream_t stream);
cudaError_t launch_attention_finish(const AttentionRows& shape, HeadsView out, StatisticView lse, HeadsView accumulator,
                                    StatisticView maximum, StatisticView sum, cudaStream_t stream);
// Folds the output and log-sum-exp of one block of keys, as an engine like cuDNN returns them (fused_attention.h), into
// a state: the block counts as one key of score lse and value out. bfloat16 with a state in float32. Rows that see none
// of its keys (lse = -inf, or an empty interval of the mask) leave the state unchanged.
struct AttentionMerge {
  AttentionRows shape;
  HeadsView out;      // bfloat16
  StatisticView lse;  // float32
  HeadsView accumulator;
  StatisticView maximum, sum;
  const int64_t* query_index = nullptr;  // [Tq]
  const int64_t* first = nullptr;        // [B, Tq], batches first_batch elements apart
  int64_t first_batch = 0;
};
cudaError_t launch_attention_merge(const AttentionMerge& args, cudaStream_t stream);

// For the backward pass of such an engine: stores the log-sum-exp of some rows in `packed` [B, NH, Tq], float32. Rows
// that see nothing (lse = -inf, or an empty interval) get a number that makes every weight 0.
struct AttentionRowsLse {
  AttentionRows shape;
  StatisticView lse;
  float* packed = nullptr;
  const int64_t* query_index = nullptr;  // [Tq]
  const int64_t* first = nullptr;        // [B, Tq], batches first_batch elements apart
  int64_t first_batch = 0;
};
cudaError_t launch_attention_rows_lse(const AttentionRowsLse& args, cudaStream_t stream);
// And its gradients of one block of rows and keys added to the accumulators: dq += block_dq (float32), dk += block_dk,
// dv += block_dv (bfloat16); or, of the only block, `rounded` to the results, bfloat16 too.
struct AttentionFold {
  int64_t batch = 0, rows = 0, keys = 0;
  int heads = 0, kv_heads = 0, head_size = 0;
  HeadsView dq, dk, dv;                    // float32, or bfloat16
  HeadsView block_dq, block_dk, block_dv;  // float32, bfloat16, bfloat16
  bool rounded = false;
  AttentionTurn turn = {};  // of rounded results
};
cudaError_t launch_attention_fold(const AttentionFold& args, cudaStream_t stream);
cudaError_t launch_attention_delta(const AttentionRows& shape, StatisticView delta, HeadsView dout, HeadsView out,
                                   cudaStream_t stream);
cudaError_t launch_attention_backward(const AttentionBackward& args, cudaStream_t stream);

// Called by the two above for problems that the tensor-core kernels do not support (attention_general.cu).
cudaError_t launch_attention_forward_general(const AttentionForward& args, cudaStream_t stream);
cudaError_t launch_attention_backward_general(const AttentionBackward& args, cudaStream_t stream);

}  // namespace carillon::cuda
