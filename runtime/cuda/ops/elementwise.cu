// fill, copy, add, sum, scale and soft_cap on tensors of any strides. Bound by memory: one thread processes one pack
// (16 bytes of the narrowest type) if all rows allow it, else one element.
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {
namespace {

struct Job {
  RowGrid grid;
  Elementwise args;
};

// The first element of row `row` of an operand.
template <class T>
__device__ __forceinline__ T* row_of(const Elementwise& args, const Elementwise::Operand& x, int64_t row) {
  int64_t offset = 0;
  for (int dim = args.outer - 1; dim > 0; --dim) {
    offset += row % args.size[dim] * x.stride[dim];
    row /= args.size[dim];
  }
  if (args.outer > 0) offset += row * x.stride[0];
  return static_cast<T*>(x.data) + offset;
}

template <class T, int kCount>
__device__ __forceinline__ Pack<T, kCount> load(const Elementwise& args, const Elementwise::Operand& x, int64_t row,
                                                int64_t pack) {
  const T* begin = row_of<T>(args, x, row);
  return Pack<T, kCount>::load(begin + (kCount == 1 ? pack * x.step : pack * kCount));
}
template <class T, int kCount>
__device__ __forceinline__ void store(const Pack<T, kCount>& value, const Elementwise& args, int64_t row,
                                      int64_t pack) {
  T* begin = row_of<T>(args, args.y, row);
  value.store(begin + (kCount == 1 ? pack * args.y.step : pack * kCount));
}

template <class T, int kCount>
__global__ void fill_kernel(const __grid_constant__ Job job) {
  Pack<T, kCount> value;
  for (int i = 0; i < kCount; ++i) value.value[i] = convert<T>(job.args.factor);
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step)
    store<T, kCount>(value, job.args, at.row, at.pack);
}

template <class Y, class X, int kCount>
__global__ void copy_kernel(const __grid_constant__ Job job) {
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    const Pack<X, kCount> x = load<X, kCount>(job.args, job.args.a, at.row, at.pack);
    Pack<Y, kCount> y;
    for (int i = 0; i < kCount; ++i) y.value[i] = convert<Y>(x.value[i]);
    store<Y, kCount>(y, job.args, at.row, at.pack);
  }
}

template <class A, class B>
struct Wider {
  using type = float;
};
template <class B>
struct Wider<double, B> {
  using type = double;
};
template <class A>
struct Wider<A, double> {
  using type = double;
};
template <>
struct Wider<double, double> {
  using type = double;
};

template <class Y, class X, int kCount>
__global__ void add_kernel(const __grid_constant__ Job job) {
  using Sum = typename Wider<Y, X>::type;
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    const Pack<X, kCount> x = load<X, kCount>(job.args, job.args.a, at.row, at.pack);
    Pack<Y, kCount> y = load<Y, kCount>(job.args, job.args.y, at.row, at.pack);
    for (int i = 0; i < kCount; ++i) y.value[i] = convert<Y>(convert<Sum>(y.value[i]) + convert<Sum>(x.value[i]));
    store<Y, kCount>(y, job.args, at.row, at.pack);
  }
}

template <class T, int kCount>
__global__ void sum_kernel(const __grid_constant__ Job job) {
  using A = Accumulate<T>;
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    const Pack<T, kCount> a = load<T, kCount>(job.args, job.args.a, at.row, at.pack);
    const Pack<T, kCount> b = load<T, kCount>(job.args, job.args.b, at.row, at.pack);
    Pack<T, kCount> y;
    for (int i = 0; i < kCount; ++i) y.value[i] = convert<T>(convert<A>(a.value[i]) + convert<A>(b.value[i]));
    store<T, kCount>(y, job.args, at.row, at.pack);
  }
}

template <class T, int kCount>
__global__ void scale_kernel(const __grid_constant__ Job job) {
  using A = Accumulate<T>;
  const A factor = static_cast<A>(job.args.factor);
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    Pack<T, kCount> y = load<T, kCount>(job.args, job.args.y, at.row, at.pack);
    for (int i = 0; i < kCount; ++i) y.value[i] = convert<T>(convert<A>(y.value[i]) * factor);
    store<T, kCount>(y, job.args, at.row, at.pack);
  }
}

template <class T, int kCount>
__global__ void soft_cap_kernel(const __grid_constant__ Job job) {
  using A = Accumulate<T>;
  const A cap = static_cast<A>(job.args.factor);
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    Pack<T, kCount> y = load<T, kCount>(job.args, job.args.y, at.row, at.pack);
    for (int i = 0; i < kCount; ++i) y.value[i] = convert<T>(cap * hyperbolic_tangent(convert<A>(y.value[i]) / cap));
    store<T, kCount>(y, job.args, at.row, at.pack);
  }
}

bool rows_pack(const Elementwise& args, const Elementwise::Operand& x, int count, size_t bytes) {
  if (x.data == nullptr) return true;
  if (x.step != 1) return false;
  if (!packs(x.data, 0, count, bytes)) return false;
  for (int dim = 0; dim < args.outer; ++dim)
    if (!packs(nullptr, x.stride[dim], count, bytes)) return false;
  return true;
}

template <class T>
constexpr size_t smallest(size_t other) {
  return sizeof(T) < other ? sizeof(T) : other;
}

// Launches one of the two kernels: for packs of 16 bytes of the narrowest type, or for single elements.
template <class Y, class X, int kCount>
cudaError_t choose(void (*packed)(Job), void (*single)(Job), const Elementwise& args, cudaStream_t stream) {
  if (args.rows == 0 || args.length == 0) return cudaSuccess;
  const bool fits = args.length % kCount == 0 && rows_pack(args, args.y, kCount, sizeof(Y)) &&
                    rows_pack(args, args.a, kCount, sizeof(X)) && rows_pack(args, args.b, kCount, sizeof(X));
  const Job job{RowGrid(args.rows, fits ? args.length / kCount : args.length), args};
  return launch(fits ? packed : single, job.grid, stream, job);
}

template <class Y, class X>
cudaError_t copy(const Elementwise& args, cudaStream_t stream) {
  constexpr int kCount = 16 / static_cast<int>(smallest<Y>(sizeof(X)));
  return choose<Y, X, kCount>(copy_kernel<Y, X, kCount>, copy_kernel<Y, X, 1>, args, stream);
}

}  // namespace

cudaError_t launch_fill(const Elementwise& args, cudaStream_t stream) {
  const auto fill = [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    return choose<T, T, kCount>(fill_kernel<T, kCount>, fill_kernel<T, 1>, args, stream);
  };
  if (args.y.type == Type::kInt64) return fill(int64_t{});
  if (args.y.type == Type::kUInt8) return fill(uint8_t{});
  return dispatch_type(args.y.type, fill);
}

cudaError_t launch_copy(const Elementwise& args, cudaStream_t stream) {
  if (args.y.type == args.a.type) {  // copies the bits
    switch (args.y.type) {
      case Type::kFloat64:
      case Type::kInt64:
        return copy<int64_t, int64_t>(args, stream);
      case Type::kFloat32:
        return copy<uint32_t, uint32_t>(args, stream);
      case Type::kBFloat16:
        return copy<uint16_t, uint16_t>(args, stream);
      case Type::kUInt8:
        return copy<uint8_t, uint8_t>(args, stream);
    }
  }
  return dispatch_type(args.y.type, [&](auto y) {
    return dispatch_type(args.a.type, [&](auto x) {
      using Y = decltype(y);
      using X = decltype(x);
      if constexpr (sizeof(Y) == sizeof(X)) {
        return cudaErrorInvalidValue;  // equal types are handled above
      } else {
        return copy<Y, X>(args, stream);
      }
    });
  });
}

cudaError_t launch_add(const Elementwise& args, cudaStream_t stream) {
  return dispatch_type(args.y.type, [&](auto y) {
    return dispatch_type(args.a.type, [&](auto x) {
      using Y = decltype(y);
      using X = decltype(x);
      constexpr int kCount = 16 / static_cast<int>(smallest<Y>(sizeof(X)));
      return choose<Y, X, kCount>(add_kernel<Y, X, kCount>, add_kernel<Y, X, 1>, args, stream);
    });
  });
}

cudaError_t launch_sum(const Elementwise& args, cudaStream_t stream) {
  return dispatch_type(args.y.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    return choose<T, T, kCount>(sum_kernel<T, kCount>, sum_kernel<T, 1>, args, stream);
  });
}

cudaError_t launch_scale(const Elementwise& args, cudaStream_t stream) {
  return dispatch_type(args.y.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    return choose<T, T, kCount>(scale_kernel<T, kCount>, scale_kernel<T, 1>, args, stream);
  });
}

cudaError_t launch_soft_cap(const Elementwise& args, cudaStream_t stream) {
  return dispatch_type(args.y.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    return choose<T, T, kCount>(soft_cap_kernel<T, kCount>, soft_cap_kernel<T, 1>, args, stream);
  });
}

}  // namespace carillon::cuda
