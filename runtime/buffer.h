// Owners of memory. A Buffer is one allocation on one device; an Arena allocates named tensors out of one Buffer.
//
// A training step allocates nothing: all memory is allocated before step 0. The same code runs twice for this, first
// with a measuring Arena, which counts and returns tensors without memory, then with an Arena over a Buffer of the
// measured size. The sizes that `plan` prints are therefore the sizes that a run allocates.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "runtime/tensor.h"

namespace carillon {

class Buffer {
 public:
  Buffer() = default;
  Buffer(void* data, size_t bytes, std::function<void(void*)> release)
      : data_(data), bytes_(bytes), release_(std::move(release)) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr && release_) release_(data_);
  }

  // Returns zeroed host memory, aligned to 64 bytes; from 2 MiB on aligned to 2 MiB and advised to use huge pages.
  // Throws error 74 if the allocation fails.
  static Buffer host(size_t bytes);

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void swap(Buffer& other) {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(release_, other.release_);
  }

  void* data_ = nullptr;
  size_t bytes_ = 0;
  std::function<void(void*)> release_;
};

class Arena {
 public:
  static constexpr size_t kAlignment = 64;

  Arena() = default;  // measuring: tensors have no memory
  explicit Arena(Buffer buffer) : buffer_(std::move(buffer)), measuring_(false) {}

  bool measuring() const { return measuring_; }

  // Allocates the next bytes, aligned. `name` is "role.tensor" ("activations.layer.attention"); bytes are added up per
  // name.
  Tensor allocate(std::string_view name, DType dtype, std::span<const int64_t> shape);
  Tensor allocate(std::string_view name, DType dtype, std::initializer_list<int64_t> shape) {
    return allocate(name, dtype, std::span<const int64_t>(shape.begin(), shape.size()));
  }

  // For working memory that several phases share: rewind(mark) frees everything allocated since mark(). After that,
  // bytes_by_name() still counts what was allocated, and peak() is the size that is needed.
  size_t mark() const { return used_; }
  void rewind(size_t mark);
  // Continues behind the memory of an earlier phase: raises used() to at least `mark`, which must have been reached
  // before.
  void advance(size_t mark);

  size_t used() const { return used_; }
  size_t peak() const { return peak_; }
  const std::map<std::string, size_t, std::less<>>& bytes_by_name() const { return by_name_; }

 private:
  Buffer buffer_;
  bool measuring_ = true;
  size_t used_ = 0;
  size_t peak_ = 0;
  std::map<std::string, size_t, std::less<>> by_name_;
};

}  // namespace carillon
