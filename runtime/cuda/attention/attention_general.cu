// Attention for every type and head size up to 256, on the CUDA cores; used by parity tests in float64 and float32, and
// by models with other head sizes. The state, the intervals and the division of work are those of the tensor-core
// kernels (attention_forward.cu, attention_backward.cu): a block owns kTile rows of its side and walks over tiles of
// the other.
//
// Tiles are stored in type A with rows an odd number of elements apart, so that eight lanes reading eight rows access
// eight banks. Eight lanes share two rows: each computes every eighth score of both, and sums every eighth column of
// their results.
#include "runtime/cuda/attention/attention_interval.h"
#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/attention/attention_turn.h"
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {
namespace {

constexpr int kWidest = 256;  // head size
constexpr int kLanes = 8;     // lanes that share two rows

// Rows of a tile, such that four tiles fit into shared memory with heads of kWidest.
template <class A>
constexpr int kTile = sizeof(A) == 8 ? 16 : 32;

__host__ __device__ __forceinline__ int pitch_of(int head_size) { return head_size | 1; }

// Loads tile[kTile, head_size] from the rows of `from`, with zeros from row `valid` on.
template <class T, class A>
__device__ __forceinline__ void load_tile(A* tile, const T* from, int64_t stride, int valid, int head_size) {
  const int pitch = pitch_of(head_size);
  for (int index = static_cast<int>(threadIdx.x); index < kTile<A> * head_size; index += static_cast<int>(blockDim.x)) {
    const int row = index / head_size, column = index % head_size;
    tile[row * pitch + column] = row < valid ? convert<A>(from[row * stride + column]) : A(0);
  }
}

// products[half][j] = own row (row + half · kTile / 2) · other row (lane + 8j).
template <class A>
__device__ __forceinline__ void multiply_rows(A (&products)[2][kTile<A> / kLanes], const A* own, const A* other,
                                              int row, int lane, int head_size) {
  const int pitch = pitch_of(head_size);
#pragma unroll
  for (int j = 0; j < kTile<A> / kLanes; ++j) products[0][j] = products[1][j] = 0;
  for (int d = 0; d < head_size; ++d) {
    const A upper = own[row * pitch + d], lower = own[(row + kTile<A> / 2) * pitch + d];
#pragma unroll
    for (int j = 0; j < kTile<A> / kLanes; ++j) {
      const A value = other[(lane + kLanes * j) * pitch + d];
      products[0][j] += upper * value;
      products[1][j] += lower * value;
    }
  }
}

// sums[half][c] += Σ over the tile's rows of weights[own row, row] · other[row, lane + 8c].
template <class A, int kColumns>
__device__ __forceinline__ void multiply_columns(A (&sums)[2][kColumns], const A* weights, const A* other, int row,
                                                 int lane, int head_size) {
  const int pitch = pitch_of(head_size);
  for (int r = 0; r < kTile<A>; ++r) {
    const A upper = weights[row * (kTile<A> + 1) + r], lower = weights[(row + kTile<A> / 2) * (kTile<A> + 1) + r];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (lane + kLanes * c >= head_size) continue;
      const A value = other[r * pitch + lane + kLanes * c];
      sums[0][c] += upper * value;
      sums[1][c] += lower * value;
    }
  }
}

template <class A>
__device__ __forceinline__ A largest_of(A a, A b) {
  return a > b ? a : b;
}

// The work of a block: its tile of rows (longest first), its head and its sequence.
struct Place {
  int row0, head;
  int64_t batch;
};
template <class A>
__device__ __forceinline__ Place place_of(int64_t rows, int heads, int64_t batch, bool last_first) {
  const int pairs = heads * static_cast<int>(batch), index = static_cast<int>(blockIdx.x);
  const int tiles = static_cast<int>((rows + kTile<A> - 1) / kTile<A>);
  const int tile = last_first ? tiles - 1 - index / pairs : index / pairs;
  return {tile * kTile<A>, index % pairs % heads, index % pairs / heads};
}

template <class T>
__device__ __forceinline__ T* rows_of(const HeadsView& x, int64_t batch, int head, int64_t token) {
  return static_cast<T*>(x.data) + batch * x.batch + head * x.head + token * x.token;
}
template <class A>
__device__ __forceinline__ A* rows_of(const StatisticView& x, int64_t batch, int head) {
  return static_cast<A*>(x.data) + batch * x.batch + head * x.head;
}

template <class T, int kColumns>
__global__ void __launch_bounds__(128) general_forward_kernel(const __grid_constant__ AttentionForward args) {
  using A = Accumulate<T>;
  constexpr int kRows = kTile<A>;
  const AttentionProblem& p = args.problem;
  const int rows = static_cast<int>(p.rows), keys = static_cast<int>(p.keys), head_size = p.head_size;
  const Place place = place_of<A>(p.rows, p.heads, p.batch, true);
  const int row0 = place.row0, head = place.head, kv_head = head / (p.heads / p.kv_heads);

  A* const queries = reinterpret_cast<A*>(shared_memory);
  A* const others = queries + kRows * pitch_of(head_size);  // keys, then values
  A* const weights = others + kRows * pitch_of(head_size);
  int* const bounds = reinterpret_cast<int*>(weights + kRows * (kRows + 1));
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < 2 * kRows) {
    const int mine = row0 + thread / 2 < rows ? row0 + thread / 2 : rows - 1;
    bounds[thread] = key_bound(p, place.batch, mine, thread % 2 == 1);
  }
  load_tile(queries, rows_of<const T>(p.q, place.batch, head, row0), p.q.token, rows - row0, head_size);
  __syncthreads();
  const TileRange range = tiles_of({bounds[0], bounds[1]}, {bounds[2 * kRows - 2], bounds[2 * kRows - 1]}, kRows);

  const int lane = thread % kLanes, row = thread / kLanes;
  const A scale = static_cast<A>(p.scale);
  A maximum[2], sum[2], out[2][kColumns];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = row0 + row + half * kRows / 2;
    sum[half] = r < rows && !args.first ? rows_of<A>(args.sum, place.batch, head)[r] : A(0);
    const bool begun = r < rows && sum[half] != 0;  // else the accumulator may hold anything
    maximum[half] = begun ? rows_of<A>(args.maximum, place.batch, head)[r] : -static_cast<A>(INFINITY);
    if (args.first && args.sinks != nullptr) {
      maximum[half] = convert<A>(static_cast<const T*>(args.sinks)[head]);
      sum[half] = 1;
    }
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      out[half][c] = begun && lane + kLanes * c < head_size
                         ? rows_of<A>(args.accumulator, place.batch, head, r)[lane + kLanes * c]
                         : A(0);
  }

  for (int tile = range.begin; tile < range.end; ++tile) {
    const int key0 = tile * kRows;
    load_tile(others, rows_of<const T>(p.k, place.batch, kv_head, key0), p.k.token, keys - key0, head_size);
    if (!kBroken<InjectedFault::kBarrierRemoved>) __syncthreads();
    A score[2][kRows / kLanes];
    multiply_rows(score, queries, others, row, lane, head_size);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = row + half * kRows / 2;
      A largest = maximum[half];
#pragma unroll
      for (int j = 0; j < kRows / kLanes; ++j) {
        const int key = key0 + lane + kLanes * j;
        const bool visible = key >= bounds[2 * r] && key < bounds[2 * r + 1];
        score[half][j] = visible ? score[half][j] * scale : -static_cast<A>(INFINITY);
        largest = largest_of(score[half][j], largest);
      }
      for (int offset = 1; offset < kLanes; offset *= 2)
        largest = largest_of(__shfl_xor_sync(kAllLanes, largest, offset), largest);
      // A row that has seen nothing keeps -inf; its exponentials are formed against 0, and are 0.
      const A reference = largest == -static_cast<A>(INFINITY) ? A(0) : largest;
      const A shrink = exponential(maximum[half] - reference);
      maximum[half] = largest;
      A part = 0;
#pragma unroll
      for (int j = 0; j < kRows / kLanes; ++j) {
        const A weight = exponential(score[half][j] - reference);
        part += weight;
        weights[r * (kRows + 1) + lane + kLanes * j] = weight;
      }
      for (int offset = 1; offset < kLanes; offset *= 2) part += __shfl_xor_sync(kAllLanes, part, offset);
      sum[half] = sum[half] * shrink + part;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) out[half][c] *= shrink;
    }
    __syncthreads();  // the keys have been read, the weights written
    load_tile(others, rows_of<const T>(p.v, place.batch, kv_head, key0), p.v.token, keys - key0, head_size);
    __syncthreads();
    multiply_columns<A, kColumns>(out, weights, others, row, lane, head_size);
    __syncthreads();  // the values have been read
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = row0 + row + half * kRows / 2;
    if (r >= rows) continue;
    if (args.out.data != nullptr) {
      // As finish_kernel, from what the state would hold.
      if (lane == 0)
        rows_of<A>(args.lse, place.batch, head)[r] =
            sum[half] == 0 ? -static_cast<A>(INFINITY) : maximum[half] + logarithm(sum[half]);
      T* const to = rows_of<T>(args.out, place.batch, head, r);
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
        if (lane + kLanes * c < head_size)
          to[lane + kLanes * c] = convert<T>(sum[half] == 0 ? A(0) : out[half][c] / sum[half]);
      continue;
    }
    if (range.begin >= range.end && !args.first) continue;
    if (lane == 0) {
      rows_of<A>(args.maximum, place.batch, head)[r] = maximum[half];
      rows_of<A>(args.sum, place.batch, head)[r] = sum[half];
    }
    A* const to = rows_of<A>(args.accumulator, place.batch, head, r);
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      if (lane + kLanes * c < head_size) to[lane + kLanes * c] = out[half][c];
  }
}

// One kernel for both sides: own rows are keys (own = k and v, other = q and dout; gathers dk and dv over the query
// heads of the group) or queries (own = q and dout, other = k and v; gathers dq).
template <class T, int kColumns, bool kOwnKeys>
__global__ void __launch_bounds__(128) general_backward_kernel(const __grid_constant__ AttentionBackward args) {
  using A = Accumulate<T>;
  constexpr int kRows = kTile<A>;
  const AttentionProblem& p = args.problem;
  const int rows = static_cast<int>(p.rows), keys = static_cast<int>(p.keys), head_size = p.head_size;
  const int group = p.heads / p.kv_heads, own_count = kOwnKeys ? keys : rows;
  const Place place = place_of<A>(own_count, kOwnKeys ? p.kv_heads : p.heads, p.batch, !kOwnKeys);
  const int row0 = place.row0;

  const int tile_elements = kRows * pitch_of(head_size);
  A* const own = reinterpret_cast<A*>(shared_memory);
  A* const other = own + 2 * tile_elements;
  A* const weights = other + 2 * tile_elements;  // p, after it ds
  A* const ds_weights = weights + kRows * (kRows + 1);
  A* const references = ds_weights + kRows * (kRows + 1);  // of the queries at hand: lse, or +inf; after it delta
  int* const bounds = reinterpret_cast<int*>(references + 2 * kRows);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < 2 * kRows) {
    const int mine = row0 + thread / 2 < own_count ? row0 + thread / 2 : own_count - 1;
    bounds[thread] =
        kOwnKeys ? row_bound(p, place.batch, mine, thread % 2 == 1) : key_bound(p, place.batch, mine, thread % 2 == 1);
  }
  __syncthreads();
  const TileRange range = tiles_of({bounds[0], bounds[1]}, {bounds[2 * kRows - 2], bounds[2 * kRows - 1]}, kRows);
  const bool begins = kOwnKeys ? args.first_keys : args.first;
  if (range.begin >= range.end && !begins) return;

  const auto load_references = [&](int head, int first_row) {
    if (thread >= kRows) return;
    const int r = first_row + thread;
    const A lse = r < rows ? rows_of<A>(args.lse, place.batch, head)[r] : -static_cast<A>(INFINITY);
    references[thread] = lse == -static_cast<A>(INFINITY) ? static_cast<A>(INFINITY) : lse;
    references[kRows + thread] = r < rows ? rows_of<A>(args.delta, place.batch, head)[r] : A(0);
  };
  const auto load_pair = [&](A* to, bool of_keys, int head, int first) {
    const HeadsView& upper = of_keys ? p.k : p.q;
    const HeadsView& lower = of_keys ? p.v : args.dout;
    const int valid = (of_keys ? keys : rows) - first;
    load_tile(to, rows_of<const T>(upper, place.batch, head, first), upper.token, valid, head_size);
    load_tile(to + tile_elements, rows_of<const T>(lower, place.batch, head, first), lower.token, valid, head_size);
  };

  const int lane = thread % kLanes, row = thread / kLanes;
  const A scale = static_cast<A>(p.scale);
  load_pair(own, kOwnKeys, place.head, row0);
  if (!kOwnKeys && args.first) {
    // The row sums dout · out, by the eight lanes that share the rows.
    if (!kBroken<InjectedFault::kDeltaBarrierRemoved>) __syncthreads();  // dout is there
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = row + half * kRows / 2;
      const bool inside = row0 + r < rows;
      const T* const out = rows_of<const T>(args.out, place.batch, place.head, inside ? row0 + r : 0);
      A delta = 0;
      for (int d = lane; d < head_size && inside; d += kLanes)
        delta += own[tile_elements + r * pitch_of(head_size) + d] * convert<A>(out[d]);
      for (int offset = 1; offset < kLanes; offset *= 2) delta += __shfl_xor_sync(kAllLanes, delta, offset);
      if (inside && lane == 0) rows_of<A>(args.delta, place.batch, place.head)[row0 + r] = delta;
    }
    __syncthreads();  // the sums are there
  }
  if (!kOwnKeys) load_references(place.head, row0);
  A first_sums[2][kColumns], second_sums[2][kColumns];  // dk or dq, not yet scaled; dv
#pragma unroll
  for (int c = 0; c < kColumns; ++c) first_sums[0][c] = first_sums[1][c] = second_sums[0][c] = second_sums[1][c] = 0;

  const int head0 = kOwnKeys ? place.head * group : place.head / group, head_count = kOwnKeys ? group : 1;
  for (int head = head0; head < head0 + head_count; ++head)
    for (int tile = range.begin; tile < range.end; ++tile) {
      const int other0 = tile * kRows;
      load_pair(other, !kOwnKeys, head, other0);
      if (kOwnKeys) load_references(head, other0);
      if (!kBroken<InjectedFault::kBarrierRemoved>) __syncthreads();
      A score[2][kRows / kLanes], product[2][kRows / kLanes];
      multiply_rows(score, own, other, row, lane, head_size);
      multiply_rows(product, own + tile_elements, other + tile_elements, row, lane, head_size);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int r = row + half * kRows / 2;
#pragma unroll
        for (int j = 0; j < kRows / kLanes; ++j) {
          const int column = lane + kLanes * j, query = kOwnKeys ? column : r;
          const bool visible = other0 + column >= bounds[2 * r] && other0 + column < bounds[2 * r + 1];
          const A weight = visible ? exponential(score[half][j] * scale - references[query]) : A(0);
          weights[r * (kRows + 1) + column] = weight;
          ds_weights[r * (kRows + 1) + column] =
              visible ? weight * (product[half][j] - references[kRows + query]) : A(0);
        }
      }
      __syncwarp();  // a row's weights are written and read by eight lanes of one warp
      multiply_columns<A, kColumns>(first_sums, ds_weights, other, row, lane, head_size);
      if (kOwnKeys) multiply_columns<A, kColumns>(second_sums, weights, other + tile_elements, row, lane, head_size);
      __syncthreads();  // the tile has been read
    }

  const HeadsView& result = kOwnKeys ? args.result_dk : args.result_dq;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = row0 + row + half * kRows / 2;
    if (r >= own_count) continue;
    const auto put = [&](const HeadsView& sum, const HeadsView& rounded, const A(&values)[kColumns], A factor) {
      if (rounded.data != nullptr) {
        T* const to = rows_of<T>(rounded, place.batch, place.head, r);
#pragma unroll
        for (int c = 0; c < kColumns; ++c)
          if (lane + kLanes * c < head_size) to[lane + kLanes * c] = convert<T>(product(values[c], factor));
      } else {
        A* const to = rows_of<A>(sum, place.batch, place.head, r);
#pragma unroll
        for (int c = 0; c < kColumns; ++c)
          if (lane + kLanes * c < head_size)
            to[lane + kLanes * c] = (begins ? A(0) : to[lane + kLanes * c]) + values[c] * factor;
      }
    };
    put(kOwnKeys ? args.dk : args.dq, result, first_sums[half], scale);
    if (kOwnKeys) put(args.dv, args.result_dv, second_sums[half], A(1));
  }
  if (result.data == nullptr || args.turn.position == nullptr) return;
  if (!kBroken<InjectedFault::kTurnNotWaitedFor>) __syncwarp();  // a row is turned by the eight lanes that wrote it
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = row0 + row + half * kRows / 2;
    if (r < own_count)
      turn_back(args.turn, rows_of<T>(result, place.batch, place.head, r), place.batch * own_count + r, lane, kLanes);
  }
}

// Launches the kernel; `tiles` of kTile rows, `square` of kTile x kTile weights, `rows` of kTile numbers.
template <class A, class Args>
cudaError_t launch_general(void (*kernel)(const Args), int64_t own_count, int64_t heads, int tiles, int square,
                           int rows, const Args& args, cudaStream_t stream) {
  constexpr int kRows = kTile<A>;
  const int64_t blocks = (own_count + kRows - 1) / kRows * heads * args.problem.batch;
  const int numbers = tiles * kRows * pitch_of(args.problem.head_size) + square * kRows * (kRows + 1) + rows * kRows;
  return launch_attention(kernel, blocks, kRows * kLanes / 2,
                          static_cast<size_t>(numbers) * sizeof(A) + kRows * sizeof(Interval), args, stream);
}

// Calls function(T{}, columns) with the columns of a head that a lane holds, as a compile-time number.
template <int kCount>
struct Columns {
  static constexpr int value = kCount;
};
template <class Function>
cudaError_t dispatch(const AttentionProblem& p, Function&& function) {
  if (p.head_size > kWidest) return cudaErrorInvalidValue;
  return dispatch_type(p.type, [&](auto zero) {
    if (p.head_size <= 64) return function(zero, Columns<8>{});
    if (p.head_size <= 128) return function(zero, Columns<16>{});
    return function(zero, Columns<32>{});
  });
}

}  // namespace

cudaError_t launch_attention_forward_general(const AttentionForward& args, cudaStream_t stream) {
  const AttentionProblem& p = args.problem;
  return dispatch(p, [&](auto zero, auto columns) {
    using T = decltype(zero);
    return launch_general<Accumulate<T>>(general_forward_kernel<T, columns.value>, p.rows, p.heads, 2, 1, 0, args,
                                         stream);
  });
}

cudaError_t launch_attention_backward_general(const AttentionBackward& args, cudaStream_t stream) {
  const AttentionProblem& p = args.problem;
  return dispatch(p, [&](auto zero, auto columns) {
    using T = decltype(zero);
    // The deltas that the first forms the second reads.
    const cudaError_t error = launch_general<Accumulate<T>>(general_backward_kernel<T, columns.value, false>, p.rows,
                                                            p.heads, 4, 2, 2, args, stream);
    if (error != cudaSuccess) return error;
    return launch_general<Accumulate<T>>(general_backward_kernel<T, columns.value, true>, p.keys, p.kv_heads, 4, 2, 2,
                                         args, stream);
  });
}

}  // namespace carillon::cuda
