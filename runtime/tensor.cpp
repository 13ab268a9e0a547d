#include "runtime/tensor.h"

#include <fmt/ranges.h>

namespace carillon {

std::string describe(const Tensor& tensor) {
  return fmt::format("{} [{}]", name_of(tensor.dtype()), fmt::join(tensor.shape(), ", "));
}

}  // namespace carillon
