#include "data/formats/gguf_export.h"

#include <algorithm>

#include "data/formats/gguf_values.h"
#include "runtime/check.h"
#include "runtime/error.h"

namespace carillon {
namespace {

constexpr int64_t kPiece = int64_t{1} << 20;  // elements read at once

const char* name_of(GgufType type) { return type == GgufType::kQ8_0 ? "q8_0" : "f16"; }

// Rows [begin, begin + count) of a tensor as float32.
std::vector<float> read_rows(const ModelSource& source, const GgufTensor& tensor, int64_t begin, int64_t count) {
  Rectangle rectangle = Rectangle::whole(tensor.shape);
  rectangle.offset[0] = begin;
  rectangle.extent[0] = count;
  std::vector<float> values(static_cast<size_t>(rectangle.count()));
  std::vector<NamedShard> shards;
  shards.push_back({"model/" + tensor.source, rectangle, Tensor(values.data(), DType::kFloat32, rectangle.extent)});
  source.read(shards);
  return values;
}

void write_tensor(const ModelSource& source, const GgufTensor& tensor, GgufType type, const GgufSink& put) {
  std::string bytes;
  if (tensor.source.empty()) {
    append_as(type, tensor.values, bytes);
    return put(bytes);
  }
  const int64_t rows = tensor.shape[0], columns = tensor.shape.size() == 1 ? 1 : tensor.shape[1];
  const int64_t unit = std::max<int64_t>(tensor.interleaved_head, 1);
  // A vector is read whole, a matrix in pieces of whole heads.
  const int64_t step = tensor.shape.size() == 1 ? rows : std::max<int64_t>(1, kPiece / (columns * unit)) * unit;
  for (int64_t begin = 0; begin < rows; begin += step) {
    std::vector<float> values = read_rows(source, tensor, begin, std::min(step, rows - begin));
    if (tensor.offset != 0)
      for (float& value : values) value = static_cast<float>(static_cast<double>(value) + tensor.offset);
    if (tensor.interleaved_head > 0) interleave_halves(values, tensor.interleaved_head, columns);
    bytes.clear();
    if (const auto beyond = append_as(type, values, bytes))
      fail(ExitCode::kUsage, "tensor {} holds {}, which {} cannot, {}, give dtype=bf16 or dtype=f32", tensor.source,
           *beyond, name_of(type), source.path());
    put(bytes);
  }
}

}  // namespace

GgufCounts export_gguf(const ModelSource& source, const GgufKeys& keys, const std::vector<GgufTensor>& tensors,
                       GgufType type, const std::string& path) {
  GgufCounts counts;
  std::vector<GgufDescription> descriptions;
  for (const GgufTensor& tensor : tensors) {
    GgufDescription description{tensor.name, tensor.shape, tensor.exact ? GgufType::kF32 : type};
    if (description.type == GgufType::kQ8_0 && tensor.shape.back() % 32 != 0) {
      description.type = GgufType::kF16;
      ++counts.other_type;
    }
    counts.bytes += gguf_bytes(description);
    descriptions.push_back(std::move(description));
  }
  counts.tensors = static_cast<int64_t>(tensors.size());
  write_gguf(path, keys, descriptions,
             [&](size_t i, const GgufSink& put) { write_tensor(source, tensors[i], descriptions[i].type, put); });
  return counts;
}

}  // namespace carillon
