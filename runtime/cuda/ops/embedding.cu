// Gathers rows of a table, and adds gradients back into it. The backward pass sorts pairs (row of the table, row of
// dy), so that equal table rows are contiguous and in order. One block then adds the gradients of a table row one after
// another: no atomics, and in float32 the bits of the reference. A run of equal rows that crosses a border between
// pieces of kEmbeddingPiece keys is summed per piece, one block each, and then over the pieces in order, so that a
// single token that fills a batch is not left to one block. The keys are distinct, so any sort gives the same order;
// this is Batcher's bitonic sort (1968), in shared memory for partners within a chunk.
#include "runtime/cuda/ops/device_code.h"
#include "runtime/cuda/ops/launch_sizes.h"

namespace carillon::cuda {
namespace {

// ---- forward -------------------------------------------------------------------------------------------------------
struct Gather {
  RowGrid grid;
  Embedding args;
  Matrix y;
  ConstMatrix table;
};

template <class T, int kCount>
__global__ void gather_kernel(const __grid_constant__ Gather job) {
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    const int64_t row = job.args.ids[at.row] - job.args.first_row;
    Pack<T, kCount> value;
    for (int i = 0; i < kCount; ++i) value.value[i] = convert<T>(0.0f);
    if (row >= 0 && row < job.args.table_rows)
      value = Pack<T, kCount>::load(static_cast<const T*>(job.table.data) + row * job.table.stride + at.pack * kCount);
    value.store(static_cast<T*>(job.y.data) + at.row * job.y.stride + at.pack * kCount);
  }
}

// ---- sorting -------------------------------------------------------------------------------------------------------
constexpr uint64_t kNone = ~uint64_t{0};  // a row outside the table; sorts after all others
constexpr int kChunk = kSortedInABlock;
constexpr int kThreads = kChunk / 2;  // one per pair of partners

struct Sort {
  uint64_t* keys;
  const int64_t* ids;
  int64_t count, rows, table_rows, first_row;
  int64_t block, distance;  // blocks of block / 2 are already sorted; partners are `distance` apart
};

__global__ void key_kernel(const __grid_constant__ Sort args) {
  const int64_t n = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (n >= args.count) return;
  const int64_t row = n < args.rows ? args.ids[n] - args.first_row : -1;
  args.keys[n] =
      row >= 0 && row < args.table_rows ? static_cast<uint64_t>(row) << 32 | static_cast<uint64_t>(n) : kNone;
}

__device__ __forceinline__ void order(uint64_t& low, uint64_t& high, bool ascending) {
  if ((low > high) != ascending) return;
  const uint64_t other = low;
  low = high;
  high = other;
}

__global__ void far_kernel(const __grid_constant__ Sort args) {
  const int64_t pair = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (pair >= args.count / 2) return;
  const int64_t at = pair / args.distance * 2 * args.distance + pair % args.distance;
  uint64_t low = args.keys[at], high = args.keys[at + args.distance];
  order(low, high, (at & args.block) == 0);
  args.keys[at] = low;
  args.keys[at + args.distance] = high;
}

// Compares partners within a chunk: all steps for blocks of up to kChunk, or the last steps for one larger block size.
__global__ void near_kernel(const __grid_constant__ Sort args) {
  uint64_t* keys = reinterpret_cast<uint64_t*>(shared_memory);
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) * kChunk;
  keys[threadIdx.x] = args.keys[chunk + threadIdx.x];
  keys[threadIdx.x + kThreads] = args.keys[chunk + threadIdx.x + kThreads];
  const int64_t first = args.block > kChunk ? args.block : 2, last = args.block;
  for (int64_t block = first; block <= last; block *= 2)
    for (int distance = block > kChunk ? kThreads : static_cast<int>(block / 2); distance > 0; distance /= 2) {
      if (!kBroken<InjectedFault::kSortBarrierRemoved>) __syncthreads();
      const int pair = threadIdx.x, at = pair / distance * 2 * distance + pair % distance;
      order(keys[at], keys[at + distance], ((chunk + at) & block) == 0);
    }
  __syncthreads();
  args.keys[chunk + threadIdx.x] = keys[threadIdx.x];
  args.keys[chunk + threadIdx.x + kThreads] = keys[threadIdx.x + kThreads];
}

// ---- backward ------------------------------------------------------------------------------------------------------
constexpr int kAddThreads = 128;

struct Scatter {
  const uint64_t* keys;
  int64_t count, channels;
  Matrix dtable;
  ConstMatrix dy;
  // [2, pieces, channels] of A: per piece, the sums of the run that begins before it and of the run that continues
  // after it.
  void* partial;
  int64_t pieces;
  template <class A>
  __device__ A* sums(int which, int64_t piece) const {
    return static_cast<A*>(partial) + (which * pieces + piece) * channels;
  }
  // Whether there is a key at `at` and it belongs to this table row.
  __device__ bool is_of(uint64_t row, int64_t at) const { return at < count && keys[at] >> 32 == row; }
};
enum { kFromBefore, kGoesOn };

// One block per key. The block of a table row's first key in a piece adds all gradients of that row in the piece; the
// others return.
template <class T, int kCount>
__global__ void scatter_kernel(const __grid_constant__ Scatter args) {
  using A = Accumulate<T>;
  const int64_t first = blockIdx.x;
  const uint64_t key = args.keys[first];
  const uint64_t row = key >> 32;
  const bool from_before = first > 0 && args.keys[first - 1] >> 32 == row;
  if (key == kNone || (from_before && first % kEmbeddingPiece != 0)) return;
  const int64_t piece = first / kEmbeddingPiece, piece_end = (piece + 1) * kEmbeddingPiece;
  int64_t end = first + 1;
  while (end < piece_end && args.is_of(row, end)) ++end;
  const bool whole = !from_before && !(end == piece_end && args.is_of(row, end));
  A* to = whole ? static_cast<A*>(args.dtable.data) + static_cast<int64_t>(row) * args.dtable.stride
                : args.sums<A>(from_before ? kFromBefore : kGoesOn, piece);
  for (int64_t c = threadIdx.x * kCount; c < args.channels; c += kAddThreads * kCount) {
    A sum[kCount];
    for (int i = 0; i < kCount; ++i) sum[i] = whole ? to[c + i] : A(0);
    for (int64_t at = first; at < end; ++at) {
      const int64_t n = static_cast<int64_t>(args.keys[at] & 0xffffffffu);
      const auto dy = Pack<T, kCount>::load(static_cast<const T*>(args.dy.data) + n * args.dy.stride + c);
      for (int i = 0; i < kCount; ++i) sum[i] += convert<A>(dy.value[i]);
    }
    for (int i = 0; i < kCount; ++i) to[c + i] = sum[i];
  }
}

// One block per piece: if a run begins in the piece and continues after it, adds up the sums of all its pieces.
template <class A>
__global__ void gather_pieces_kernel(const __grid_constant__ Scatter args) {
  const int64_t piece = blockIdx.x, begin = piece * kEmbeddingPiece, next = begin + kEmbeddingPiece;
  const uint64_t row = args.keys[next - 1] >> 32;
  if (args.keys[next - 1] == kNone || !args.is_of(row, next)) return;
  if (begin > 0 && args.keys[begin] >> 32 == row && args.keys[begin - 1] >> 32 == row) return;  // the run began earlier
  for (int64_t c = threadIdx.x; c < args.channels; c += kAddThreads) {
    A* to = static_cast<A*>(args.dtable.data) + static_cast<int64_t>(row) * args.dtable.stride + c;
    A sum = *to + args.sums<A>(kGoesOn, piece)[c];
    for (int64_t at = next; args.is_of(row, at); at += kEmbeddingPiece)
      sum += args.sums<A>(kFromBefore, at / kEmbeddingPiece)[c];
    *to = sum;
  }
}

cudaError_t sort(Sort args, cudaStream_t stream) {
  const int64_t chunks = args.count / kChunk, blocks = divide_up(args.count, kThreads);
  cudaError_t error = launch(key_kernel, blocks, 1, kThreads, 0, stream, args);
  for (args.block = kChunk; error == cudaSuccess && args.block <= args.count; args.block *= 2) {
    for (args.distance = args.block / 2; error == cudaSuccess && args.distance >= kChunk; args.distance /= 2)
      error = launch(far_kernel, divide_up(args.count / 2, kThreads), 1, kThreads, 0, stream, args);
    if (error == cudaSuccess) error = launch(near_kernel, chunks, 1, kThreads, kChunk * sizeof(uint64_t), stream, args);
  }
  return error;
}

}  // namespace

cudaError_t launch_embedding_forward(const Embedding& args, Matrix y, ConstMatrix table, cudaStream_t stream) {
  return dispatch_type(args.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    const bool fits = args.channels % kCount == 0 && packs(y.data, y.stride, kCount, sizeof(T)) &&
                      packs(table.data, table.stride, kCount, sizeof(T));
    const Gather job{RowGrid(args.rows, fits ? args.channels / kCount : args.channels), args, y, table};
    return launch(fits ? gather_kernel<T, kCount> : gather_kernel<T, 1>, job.grid, stream, job);
  });
}

cudaError_t launch_embedding_backward(const Embedding& args, Matrix dtable, ConstMatrix dy, uint64_t* keys,
                                      void* partial, cudaStream_t stream) {
  if (args.rows == 0 || args.channels == 0) return cudaSuccess;
  const cudaError_t error =
      sort({keys, args.ids, embedding_keys(args.rows), args.rows, args.table_rows, args.first_row, 0, 0}, stream);
  if (error != cudaSuccess) return error;
  return dispatch_type(args.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    const bool fits = args.channels % kCount == 0 && packs(dy.data, dy.stride, kCount, sizeof(T));
    const Scatter job{keys, embedding_keys(args.rows), args.channels, dtable, dy, partial, embedding_pieces(args.rows)};
    const cudaError_t scattered =
        launch(fits ? scatter_kernel<T, kCount> : scatter_kernel<T, 1>, args.rows, 1, kAddThreads, 0, stream, job);
    if (scattered != cudaSuccess || job.pieces == 1) return scattered;
    return launch(gather_pieces_kernel<Accumulate<T>>, job.pieces - 1, 1, kAddThreads, 0, stream, job);
  });
}

}  // namespace carillon::cuda
