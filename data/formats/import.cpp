#include "data/formats/import.h"

#include <algorithm>

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/finite.h"
#include "data/checkpoint/tensor_io.h"
#include "data/files/hdf5_file.h"
#include "data/files/output_file.h"
#include "runtime/error.h"
#include "runtime/text.h"

namespace carillon {

namespace {
constexpr int64_t kBytesBetweenProgress = int64_t{256} << 20;

// HDF5 has names between slashes, and of a name only what stands before a NUL.
void require_storable(const std::string& name, const std::string& path) {
  if (name.empty() || name == "." || name.find('/') != std::string::npos || name.find('\0') != std::string::npos)
    fail(ExitCode::kBadInput, "no HDF5 file can hold a tensor of the name \"{}\", {}, rename it or leave it out", name,
         path);
}

}  // namespace

std::string attribute_of_file(const std::string& name) {
  std::string attribute = name;
  std::replace(attribute.begin(), attribute.end(), '.', '_');
  return attribute;
}

ImportCounts import_model(const HuggingFaceFolder& folder, const std::string& path,
                          const std::function<void(int64_t, int64_t)>& progress) {
  ImportCounts counts;
  int64_t total = 0;
  for (const std::string& name : folder.tensor_names()) {
    const auto tensor = folder.find(name);
    require_storable(name, tensor->path);
    int64_t bytes = size_of(tensor->type);
    for (const int64_t size : tensor->shape) bytes *= size;
    total += bytes;
  }
  TemporaryFile temporary(path);
  Hdf5File file = Hdf5File::create(temporary.name());
  file.set_attribute("config", folder.config_json());
  file.set_attribute("format_version", std::to_string(kCheckpointFormat));
  for (const auto& [name, content] : tokenizer_files_at(folder.path())) {
    if (content.find('\0') == std::string::npos && is_utf8(content))
      file.set_attribute(attribute_of_file(name), content);
    else
      file.set_bytes_attribute(attribute_of_file(name), content);
  }
  std::vector<TensorPart> parts;
  for (const std::string& name : folder.tensor_names()) {
    const auto tensor = folder.find(name);
    // Scalars (buffers from old writers) become vectors of one element.
    const std::vector<int64_t> shape = tensor->shape.empty() ? std::vector<int64_t>{1} : tensor->shape;
    TensorPart part{"model/" + name, tensor->type, 0, Rectangle::whole(shape), tensor->data};
    part.hashed = false;
    refuse_non_finite(name, part.rectangle, tensor->data, tensor->type, tensor->path);
    file.create_dataset({part.name, part.type, shape});
    part.place = file.place_of(part.name).value_or(0);
    parts.push_back(std::move(part));
  }
  file.close();
  TensorWriter writer(temporary.name());
  for (size_t begin = 0, end = 0; begin < parts.size(); begin = end) {
    std::vector<TensorPart> group;
    for (int64_t bytes = 0; end < parts.size() && bytes < kBytesBetweenProgress; ++end) {
      bytes += parts[end].rectangle.count() * size_of(parts[end].type);
      group.push_back(parts[end]);
    }
    writer.write(group);
    for (const TensorPart& part : group) counts.bytes += part.rectangle.count() * size_of(part.type);
    counts.tensors += static_cast<int64_t>(group.size());
    progress(counts.bytes, total);
  }
  writer.sync();
  temporary.commit();
  return counts;
}

}  // namespace carillon
