// Tensor: a non-owning view of memory (of a Buffer, an Arena, a std::vector): pointer, element type, shape and strides.
// Passed by value, like a span. The memory may be on a device, so only a Backend and a Communicator access it.
// Sizes and strides are int64 counts of elements; dims count from 0, negative dims from the end.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "runtime/check.h"
#include "runtime/dtype.h"

namespace carillon {

// The legend of dims used in every comment: B sequences, T tokens of a sequence, Tl tokens on this rank, N = B·Tl rows,
// C channels, NH query heads, NKV key/value heads, HD head size, F MLP width, V vocabulary, L layers; l = "on this
// rank".
class Tensor {
 public:
  static constexpr int kMaxRank = 5;  // [B, T, heads, HD] and one spare; each further dim costs 16 bytes per view

  Tensor() = default;

  // A packed (row-major, no gaps) tensor over `data`.
  Tensor(void* data, DType dtype, std::span<const int64_t> shape) : data_(data), dtype_(dtype) {
    CHECK(shape.size() <= kMaxRank, "too many dims", shape.size());
    rank_ = static_cast<int>(shape.size());
    int64_t stride = 1;
    for (int dim = rank_ - 1; dim >= 0; --dim) {
      CHECK(shape[dim] >= 0, "a dim cannot be negative", dim, shape[dim]);
      shape_[dim] = shape[dim];
      stride_[dim] = stride;
      stride *= shape[dim];
    }
  }
  Tensor(void* data, DType dtype, std::initializer_list<int64_t> shape)
      : Tensor(data, dtype, std::span<const int64_t>(shape.begin(), shape.size())) {}

  // A packed view of a vector's elements: Tensor::of(values, {2, 3}).
  template <class T>
  static Tensor of(std::vector<T>& values, std::initializer_list<int64_t> shape) {
    Tensor tensor(values.data(), dtype_of<T>::value, shape);
    CHECK(tensor.count() == static_cast<int64_t>(values.size()), "shape and vector differ in size", tensor.count(),
          values.size());
    return tensor;
  }

  bool empty() const { return count() == 0; }
  explicit operator bool() const { return rank_ > 0; }  // false for a default-constructed view ("absent")
  DType dtype() const { return dtype_; }
  int rank() const { return rank_; }
  int64_t size(int dim) const { return shape_[index(dim)]; }
  int64_t stride(int dim) const { return stride_[index(dim)]; }
  std::vector<int64_t> shape() const { return {shape_.begin(), shape_.begin() + rank_}; }

  // Number of elements; 1 for rank 0 with data, 0 for an absent tensor.
  int64_t count() const {
    int64_t product = data_ == nullptr && rank_ == 0 ? 0 : 1;
    for (int dim = 0; dim < rank_; ++dim) product *= shape_[dim];
    return product;
  }
  size_t bytes() const { return static_cast<size_t>(count()) * size_of(dtype_); }

  bool packed() const {
    int64_t expected = 1;
    for (int dim = rank_ - 1; dim >= 0; --dim) {
      if (shape_[dim] != 1 && stride_[dim] != expected) return false;
      expected *= shape_[dim];
    }
    return true;
  }

  void* raw() const { return data_; }

  // Typed pointer to the first element; the type must match.
  template <class T>
  T* data() const {
    CHECK(dtype_of<std::remove_const_t<T>>::value == dtype_, "tensor read as another type", name_of(dtype_));
    return static_cast<T*>(data_);
  }
  template <class T>
  std::span<T> span() const {
    CHECK(packed(), "span of a tensor with gaps");
    return {data<T>(), static_cast<size_t>(count())};
  }

  // The same elements in another shape; packed tensors only. One dim may be -1 and is then computed.
  Tensor reshape(std::initializer_list<int64_t> shape) const {
    CHECK(packed(), "reshape of a tensor with gaps");
    std::vector<int64_t> sizes(shape);
    int64_t known = 1;
    for (int64_t size : sizes) known *= size == -1 ? 1 : size;
    for (int64_t& size : sizes)
      if (size == -1) size = known == 0 ? 0 : count() / known;
    Tensor result(data_, dtype_, sizes);
    CHECK(result.count() == count(), "reshape changes the number of elements", result.count(), count());
    return result;
  }

  // Elements [begin, end) along `dim`.
  Tensor slice(int dim, int64_t begin, int64_t end) const {
    const int at = index(dim);
    CHECK(0 <= begin && begin <= end && end <= shape_[at], "slice out of range", begin, end, shape_[at]);
    Tensor result = *this;
    result.shape_[at] = end - begin;
    if (data_ != nullptr)
      result.data_ = static_cast<char*>(data_) + begin * stride_[at] * static_cast<int64_t>(size_of(dtype_));
    return result;
  }
  Tensor rows(int64_t begin, int64_t end) const { return slice(0, begin, end); }

  // A view with the same type, shape and strides of other memory, which must be laid out like this one's.
  Tensor over(void* data) const {
    Tensor result = *this;
    result.data_ = data;
    return result;
  }

  // Splits dim into [outer, size/outer] without moving data; works on strided tensors.
  Tensor split_dim(int dim, int64_t outer) const {
    const int at = index(dim);
    CHECK(rank_ < kMaxRank && outer > 0 && shape_[at] % outer == 0, "dim does not split", shape_[at], outer);
    Tensor result = *this;
    for (int d = rank_; d > at; --d) {
      result.shape_[d] = shape_[d - 1];
      result.stride_[d] = stride_[d - 1];
    }
    result.rank_ = rank_ + 1;
    result.shape_[at] = outer;
    result.shape_[at + 1] = shape_[at] / outer;
    result.stride_[at + 1] = stride_[at];
    result.stride_[at] = stride_[at] * result.shape_[at + 1];
    return result;
  }

 private:
  int index(int dim) const {
    const int at = dim < 0 ? dim + rank_ : dim;
    CHECK(0 <= at && at < rank_, "no such dim", dim, rank_);
    return at;
  }

  void* data_ = nullptr;
  DType dtype_ = DType::kFloat32;
  int rank_ = 0;
  std::array<int64_t, kMaxRank> shape_{};
  std::array<int64_t, kMaxRank> stride_{};
};

// For messages: "float32 [2, 64]".
std::string describe(const Tensor& tensor);

}  // namespace carillon
