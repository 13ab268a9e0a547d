#include "data/formats/import.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/tensor_io.h"
#include "data/files/hdf5_file.h"
#include "data/formats/hugging_face_folder.h"
#include "runtime/error.h"

namespace carillon {

namespace fs = std::filesystem;

namespace {
constexpr int64_t kBytesBetweenProgress = int64_t{256} << 20;
}  // namespace

ImportCounts import_model(const std::string& source, const std::string& path,
                          const std::function<void(int64_t, int64_t)>& progress) {
  const HuggingFaceFolder folder(source);
  ImportCounts counts;
  int64_t total = 0;
  for (const std::string& name : folder.tensor_names()) {
    const auto tensor = folder.find(name);
    int64_t bytes = size_of(tensor->type);
    for (const int64_t size : tensor->shape) bytes *= size;
    total += bytes;
  }
  const std::string temporary = fmt::format("{}.tmp-{}", path, getpid());
  struct Cleanup {
    std::string path;
    ~Cleanup() { std::remove(path.c_str()); }
  } cleanup{temporary};
  Hdf5File file = Hdf5File::create(temporary);
  file.set_attribute("config", folder.config_json());
  file.set_attribute("format_version", std::to_string(kCheckpointFormat));
  for (const auto& [text_file, attribute] :
       {std::pair("tokenizer.json", "tokenizer_json"), std::pair("tokenizer_config.json", "tokenizer_config_json")})
    if (fs::exists(fs::path(source) / text_file))
      file.set_attribute(attribute, read_text_file((fs::path(source) / text_file).string()));
  std::vector<TensorPart> parts;
  for (const std::string& name : folder.tensor_names()) {
    const auto tensor = folder.find(name);
    // Scalars (an old writer's buffers) become vectors of one.
    const std::vector<int64_t> shape = tensor->shape.empty() ? std::vector<int64_t>{1} : tensor->shape;
    TensorPart part{"model/" + name, tensor->type, 0, Rectangle::whole(shape), tensor->data};
    part.hashed = false;
    file.create_dataset({part.name, part.type, shape});
    part.place = file.place_of(part.name).value_or(0);
    parts.push_back(std::move(part));
  }
  file.close();
  TensorWriter writer(temporary);
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
  if (std::rename(temporary.c_str(), path.c_str()) != 0)
    fail(ExitCode::kCannotCreate, "cannot be created, {}, check that the folder is writable", path);
  return counts;
}

}  // namespace carillon
