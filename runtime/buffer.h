// Who owns memory. A Buffer is one allocation of one device; an Arena allocates named tensors out of one Buffer.
//
// Nothing is allocated inside a training step: everything is allocated before step 0, by the same code twice. First
// with a measuring Arena, which hands out tensors without memory and counts; then with an Arena over a Buffer of that
// size. So what `plan` prints and what a run takes cannot differ.
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

  // Zeroed host memory, aligned to 64 bytes (2 MiB and huge pages advised when large). Error 74 when there is none.
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

  // The next bytes, aligned. `name` is "role.tensor" ("activations.layer.attention"); sizes add up by name.
  Tensor allocate(std::string_view name, DType dtype, std::span<const int64_t> shape);
  Tensor allocate(std::string_view name, DType dtype, std::initializer_list<int64_t> shape) {
    return allocate(name, dtype, std::span<const int64_t>(shape.begin(), shape.size()));
  }

  // Working memory that several phases share: what is allocated after mark() is handed back by rewind(mark). Bytes by
  // name then say what was allocated, peak() what is needed.
  size_t mark() const { return used_; }
  void rewind(size_t mark);
  // Behind what an earlier phase took: used() becomes at least `mark`, which was reached before.
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
