// carillon export: the way back to a Hugging Face folder, or to one file for llama.cpp.
#include "data/formats/export.h"

#include <algorithm>

#include "data/files/output_check.h"
#include "data/formats/fused_source.h"
#include "data/formats/model_source.h"
#include "launch/commands/commands.h"
#include "launch/commands/export_gguf.h"
#include "launch/config/schema.h"
#include "launch/session/model_tensors.h"
#include "model/export_config.h"
#include "runtime/parse_json.h"

namespace carillon {
namespace {

// The type most of the weights have.
std::string weight_type(const ModelSource& source) {
  std::map<std::string, int64_t> elements;
  for (const std::string& name : source.tensor_names()) {
    const Hdf5File::Dataset stored = source.stored(name);
    elements[name_of(stored.type)] += Rectangle::whole(stored.shape).count();
  }
  return std::max_element(elements.begin(), elements.end(), [](auto& a, auto& b) { return a.second < b.second; })
      ->first;
}

// The exported config.json as another program reads it: without our own key.
ModelConfig as_others_read(const std::string& text, const std::string& where) {
  Json json = parse_json(text, where);
  json.erase("carillon_rope");
  return parse_model_config(json.dump(), where);
}

struct ExportSettings {
  std::string format = "hf";
  std::optional<std::string> dtype;
  bool overwrite = false;
};

void declare(Schema& schema, ExportSettings& settings) {
  schema.section("", "How.");
  schema.choice("format", settings.format, {{"hf", "hf"}, {"gguf", "gguf"}},
                "hf: a Hugging Face folder. gguf: one file for llama.cpp.");
  schema.choice("dtype", settings.dtype, {{"f32", "f32"}, {"f16", "f16"}, {"bf16", "bf16"}, {"q8_0", "q8_0"}},
                "Type of a gguf's matrices. Default: the weights'.");
  schema.boolean("overwrite", settings.overwrite,
                 "Whether files of a folder that is no model's may be replaced; a model's folder is replaced anyway.");
}

}  // namespace

std::string help_export() {
  ExportSettings settings;
  Schema schema;
  declare(schema, settings);
  return schema.help();
}

ExitCode run_export(Program& program, const CommandLine& line) {
  ExportSettings settings;
  Schema schema;
  declare(schema, settings);
  const std::string& format = settings.format;
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  const bool gguf = format == "gguf";
  if (line.files.size() != 2)
    fail(ExitCode::kUsage,
         "export takes a model and an output, on the command line, carillon export MODEL OUT [format=hf|gguf]");
  if (settings.dtype && !gguf)
    fail(ExitCode::kUsage, "dtype={} belongs to format=gguf, on the command line, format={} keeps every tensor's type",
         *settings.dtype, format);
  const auto world = program.make_world();
  agree(*world, [&] {
    if (world->rank() != 0) return;
    const std::string path = resolve_model_path(line.files[0], [&](const std::string& text) { program.warning(text); });
    auto source = ModelSource::open(path);
    check_output(line.files[1], {line.files[0]}, gguf ? OutputKind::kGguf : OutputKind::kModelFolder,
                 settings.overwrite);
    for (const std::string& text : source->notices()) program.warning(text);
    const ModelConfig config = parse_model_config(source->config_json(), path);
    for (const std::string& remark : config.remarks) program.warning(remark);
    source = split_source(std::move(source), fused_tensors(config));
    source->require(tensors_of(config, *source));
    if (gguf)
      return export_as_gguf(program, *source, config, settings.dtype.value_or(""), weight_type(*source), line.files[1]);
    source = join_source(std::move(source), fused_tensors(config));
    const std::string text = export_model_config(config, weight_type(*source));
    const ExportCounts counts = export_model(*source, text, line.files[1]);
    // Read again, as somebody else would.
    const auto again = ModelSource::open(line.files[1]);
    const ModelConfig theirs = as_others_read(again->config_json(), line.files[1]);
    const int64_t length = theirs.max_position_embeddings;
    fmt::print(
        "{}: {} tensors, {:.1f} MiB in {} file{}; rotation {} as transformers computes it, largest deviation {:.2g} "
        "over {} "
        "positions\n",
        printable(line.files[1]), counts.tensors, static_cast<double>(counts.bytes) / (1 << 20), counts.files,
        counts.files == 1 ? "" : "s", name_of(theirs.rope.type), largest_rotation_deviation(config, theirs, length),
        length);
  });
  return ExitCode::kDone;
}

}  // namespace carillon
