// The contents of parameters: drawn at the start, quantised, and passed to checkpoints and the optimizer as shards.
#include <cmath>

#include "model/parameters.h"
#include "runtime/rng.h"

namespace carillon {
namespace {

bool is_one_of(const Parameter& parameter, Which which) {
  switch (which) {
    case Which::kAll:
      return true;
    case Which::kTrained:
      return !parameter.frozen;
    case Which::kBase:
      return !parameter.adapter;
    case Which::kRotation:
      return parameter.rotation;
  }
  return false;
}

// Draws rows [begin, begin + to.size(0)) of the parameter's rectangle into host memory.
void draw(const Parameter& parameter, int64_t begin, Tensor to, double initializer_range, uint64_t seed) {
  const Rectangle& rectangle = parameter.rectangle;
  const int64_t width = to.count() / to.size(0);
  const uint64_t stream = stream_of(parameter.name);
  dispatch_floating(to.dtype(), [&](auto type) {
    using T = decltype(type);
    T* values = to.data<T>();
    if (parameter.initial == Initial::kOnes || parameter.initial == Initial::kZeros) {
      std::fill(values, values + to.count(), static_cast<T>(parameter.initial == Initial::kOnes ? 1.0 : 0.0));
      return;
    }
    const bool normal = parameter.initial == Initial::kNormal;
    const double bound = normal ? 0 : 1 / std::sqrt(static_cast<double>(rectangle.global_shape.back()));
    const int64_t row_length = rectangle.global_shape.size() == 2 ? rectangle.global_shape[1] : 1;
    const int64_t column_offset = rectangle.offset.size() == 2 ? rectangle.offset[1] : 0;
#pragma omp parallel for
    for (int64_t row = 0; row < to.size(0); ++row)
      for (int64_t column = 0; column < width; ++column) {
        const int64_t index = (rectangle.offset[0] + begin + row) * row_length + column_offset + column;
        const auto counter = static_cast<uint64_t>(index);
        const double value = normal ? initializer_range * random_normal(seed, stream, counter)
                                    : bound * (2 * random_uniform(seed, stream, counter) - 1);
        values[row * width + column] = static_cast<T>(value);
      }
  });
}

}  // namespace

void Parameters::initialize(Backend& backend, Communicator& tp, double initializer_range, uint64_t seed, Which which) {
  std::vector<char> drawn;
  for_each([&](Parameter& parameter) {
    if (!is_one_of(parameter, which)) return;
    if (parameter.quantized) {
      std::vector<float> values(static_cast<size_t>(parameter.rectangle.count()));
      const Tensor whole = Tensor::of(values, {parameter.rectangle.extent[0], parameter.rectangle.extent[1]});
      if (!whole.empty()) draw(parameter, 0, whole, initializer_range, seed);
      quantize(backend, tp, parameter, values);
      return;
    }
    if (parameter.weight.empty()) return;
    const int64_t rows = parameter.weight.size(0), width = parameter.weight.count() / rows;
    const int64_t step = std::max<int64_t>(1, kDrawnAtOnce / width);
    for (int64_t begin = 0; begin < rows; begin += step) {
      const Tensor part = parameter.weight.rows(begin, std::min(rows, begin + step));
      drawn.resize(part.bytes());
      const Tensor host(drawn.data(), part.dtype(), part.shape());
      draw(parameter, begin, host, initializer_range, seed);
      backend.upload(part, host);
    }
  });
}

void Parameters::quantize(Backend& backend, Communicator& tp, const Parameter& parameter,
                          std::span<const float> values) {
  const Rectangle& rectangle = parameter.rectangle;
  const int64_t count = rectangle.global_shape[0] * rectangle.global_shape[1];
  std::vector<float> maxima(static_cast<size_t>(quantized_blocks(count)));
  take_block_maxima(parameter.quantized, values, maxima);
  tp.all_reduce(Tensor::of(maxima, {quantized_blocks(count)}), Reduction::kMax);
  if (values.empty()) return;
  QuantizedMatrix host = parameter.quantized;
  std::vector<char> memory(host.codes.bytes() + host.scales.bytes() + host.table.bytes());
  // float32 tensors come first, so that they are aligned.
  size_t at = 0;
  for (Tensor* tensor : {&host.table, &host.scales, &host.codes}) {
    if (!*tensor) continue;
    *tensor = tensor->over(memory.data() + at);
    at += tensor->bytes();
  }
  carillon::quantize(host, values, maxima);
  const QuantizedMatrix& there = parameter.quantized;
  backend.upload(there.codes, host.codes);
  backend.upload(there.scales, host.scales);
  if (there.table) backend.upload(there.table, host.table);
}

std::vector<NamedShard> Parameters::weight_shards(Backend& backend, bool owner, Which which) {
  std::vector<NamedShard> shards;
  Backend* device = backend.unified() ? nullptr : &backend;
  for_each([&](Parameter& parameter) {
    if (!is_one_of(parameter, which) || parameter.quantized) return;
    const bool first_replica = shards_.tp_rank % parameter.tp_replicas == 0;
    shards.push_back(
        {"model/" + parameter.name, parameter.rectangle, parameter.weight, owner && first_replica, device});
  });
  return shards;
}

std::vector<ParameterShard> Parameters::trained() {
  std::vector<ParameterShard> result;
  for_each([&](Parameter& parameter) {
    if (!parameter.frozen) result.push_back(parameter);
  });
  return result;
}

}  // namespace carillon
