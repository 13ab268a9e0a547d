#include "launch/commands/export_gguf.h"

#include <filesystem>

#include "data/formats/gguf_export.h"
#include "data/formats/gguf_tokenizer.h"
#include "launch/session/gguf_model.h"
#include "model/export_config.h"

namespace carillon {
namespace {

struct Type {
  const char* name;    // on the command line
  const char* stored;  // weights of this type get it by default
  GgufType type;
  uint32_t file_type;  // llama.cpp's number (llama_ftype)
};
constexpr Type kTypes[] = {{"f32", "float32", GgufType::kF32, 0},
                           {"f16", "float16", GgufType::kF16, 1},
                           {"bf16", "bfloat16", GgufType::kBF16, 32},
                           {"q8_0", "", GgufType::kQ8_0, 7}};

const Type& type_of(const std::string& dtype, const std::string& weights) {
  for (const Type& type : kTypes)
    if (dtype.empty() ? weights == type.stored : dtype == type.name) return type;
  return kTypes[0];  // float64
}

}  // namespace

void export_as_gguf(Program& program, const ModelSource& source, const ModelConfig& config, const std::string& dtype,
                    const std::string& weights, const std::string& path) {
  const Type& type = type_of(dtype, weights);
  GgufModel model = gguf_model(config, std::filesystem::path(path).stem().string());
  // The first key, so that the file can be recognised as ours (output_check.h).
  GgufKeys keys = {{"carillon.rope", exact_rope(config).dump()}};
  keys.insert(keys.end(), model.keys.begin(), model.keys.end());
  keys.emplace_back("general.file_type", type.file_type);
  if (type.type == GgufType::kQ8_0) keys.emplace_back("general.quantization_version", uint32_t{2});
  std::vector<std::string> notices;
  const auto files = source.tokenizer_files();
  const auto tokenizer = source.tokenizer();
  const GgufKeys vocabulary =
      gguf_tokenizer({files, tokenizer.get(), config.vocab_size, config.eos_token_id, source.path()}, notices);
  keys.insert(keys.end(), vocabulary.begin(), vocabulary.end());
  const GgufCounts counts = export_gguf(source, keys, model.tensors, type.type, path);
  if (counts.other_type > 0)
    notices.push_back(fmt::format("{} matrices stand in f16, their rows are not a multiple of the 32 values of a block",
                                  counts.other_type));
  for (const std::string& notice : notices) program.warning(notice);
  fmt::print(
      "{}: {} tensors, {:.1f} MiB of {}, architecture {}; rotation as llama.cpp computes it, largest deviation {:.2g} "
      "over {} positions\n",
      printable(path), counts.tensors, static_cast<double>(counts.bytes) / (1 << 20), type.name, model.architecture,
      model.largest_deviation, model.context_length);
}

}  // namespace carillon
