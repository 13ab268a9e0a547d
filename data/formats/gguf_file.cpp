#include "data/formats/gguf_file.h"

#include <cstring>

#include "data/files/output_file.h"
#include "runtime/check.h"

namespace carillon {
namespace {

constexpr int64_t kAlignment = 32;
int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

template <class T>
void put(std::string& text, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  text.append(bytes, sizeof(T));
}
void put_text(std::string& text, std::string_view value) {
  put<uint64_t>(text, value.size());
  text += value;
}

// The format's number of each type of value.
enum ValueType : uint32_t { kUInt32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9 };

struct ValueWriter {
  std::string& text;
  void operator()(uint32_t value) const { put<uint32_t>(text, kUInt32), put(text, value); }
  void operator()(float value) const { put<uint32_t>(text, kFloat32), put(text, value); }
  void operator()(bool value) const { put<uint32_t>(text, kBool), put<uint8_t>(text, value ? 1 : 0); }
  void operator()(const std::string& value) const { put<uint32_t>(text, kString), put_text(text, value); }
  void operator()(const std::vector<int32_t>& values) const {
    begin_array(kInt32, values.size());
    for (const int32_t value : values) put(text, value);
  }
  void operator()(const std::vector<float>& values) const {
    begin_array(kFloat32, values.size());
    for (const float value : values) put(text, value);
  }
  void operator()(const std::vector<std::string>& values) const {
    begin_array(kString, values.size());
    for (const std::string& value : values) put_text(text, value);
  }
  void begin_array(uint32_t type, size_t count) const {
    put<uint32_t>(text, kArray);
    put(text, type);
    put<uint64_t>(text, count);
  }
};

std::string header_of(const GgufKeys& keys, const std::vector<GgufDescription>& tensors) {
  std::string text = "GGUF";
  put<uint32_t>(text, 3);
  put<uint64_t>(text, tensors.size());
  put<uint64_t>(text, keys.size());
  for (const auto& [name, value] : keys) {
    put_text(text, name);
    std::visit(ValueWriter{text}, value);
  }
  int64_t place = 0;
  for (const GgufDescription& tensor : tensors) {
    put_text(text, tensor.name);
    put<uint32_t>(text, static_cast<uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size)
      put<uint64_t>(text, static_cast<uint64_t>(*size));
    put(text, static_cast<uint32_t>(tensor.type));
    put<uint64_t>(text, static_cast<uint64_t>(place));
    place = aligned(place + gguf_bytes(tensor));
  }
  text.resize(static_cast<size_t>(aligned(static_cast<int64_t>(text.size()))), '\0');
  return text;
}

}  // namespace

int64_t gguf_bytes(const GgufDescription& tensor) {
  int64_t elements = 1;
  for (const int64_t size : tensor.shape) elements *= size;
  switch (tensor.type) {
    case GgufType::kF32:
      return 4 * elements;
    case GgufType::kF16:
    case GgufType::kBF16:
      return 2 * elements;
    case GgufType::kQ8_0:
      CHECK(tensor.shape.back() % 32 == 0, "blocks of Q8_0 have 32 columns", tensor.name);
      return elements / 32 * 34;
  }
  throw InternalError("no such GGUF type");
}

void write_gguf(const std::string& path, const GgufKeys& keys, const std::vector<GgufDescription>& tensors,
                const std::function<void(size_t tensor, const GgufSink& put)>& fill) {
  OutputFile file(path);
  file.write(header_of(keys, tensors));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t begin = file.size(), bytes = gguf_bytes(tensors[i]);
    fill(i, [&](std::string_view piece) { file.write(piece); });
    CHECK(file.size() == begin + bytes, "a tensor is of another size than announced", tensors[i].name);
    file.write(std::string(static_cast<size_t>(aligned(bytes) - bytes), '\0'));
  }
  file.commit();
}

}  // namespace carillon
