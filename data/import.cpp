#include "data/import.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "data/checkpoint.h"
#include "data/hdf5_file.h"
#include "data/hugging_face_folder.h"
#include "runtime/error.h"

namespace carillon {

namespace fs = std::filesystem;

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
  const auto alone = solo_communicator("file");
  Hdf5File file = Hdf5File::create(temporary, *alone);
  file.set_attribute("config", folder.config_json());
  file.set_attribute("format_version", std::to_string(kCheckpointFormat));
  for (const auto& [text_file, attribute] :
       {std::pair("tokenizer.json", "tokenizer_json"), std::pair("tokenizer_config.json", "tokenizer_config_json")})
    if (fs::exists(fs::path(source) / text_file))
      file.set_attribute(attribute, read_text_file((fs::path(source) / text_file).string()));
  for (const std::string& name : folder.tensor_names()) {
    const auto tensor = folder.find(name);
    const std::string dataset = "model/" + name;
    // Scalars (an old writer's buffers) become vectors of one.
    const std::vector<int64_t> shape = tensor->shape.empty() ? std::vector<int64_t>{1} : tensor->shape;
    file.create_dataset({dataset, tensor->type, shape});
    file.write(dataset, Rectangle::whole(shape), tensor->data);
    counts.tensors += 1;
    counts.bytes += Rectangle::whole(shape).count() * size_of(tensor->type);
    progress(counts.bytes, total);
  }
  file.close();
  if (std::rename(temporary.c_str(), path.c_str()) != 0)
    fail(ExitCode::kCannotCreate, "cannot be created, {}, check that the folder is writable", path);
  return counts;
}

}  // namespace carillon
