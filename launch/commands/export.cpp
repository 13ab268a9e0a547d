// carillon export: writes a Hugging Face folder, a PEFT folder, or one file for llama.cpp.
#include "data/formats/export.h"

#include <algorithm>
#include <map>
#include <utility>

#include "data/files/output_check.h"
#include "data/formats/fused_source.h"
#include "data/formats/merged_source.h"
#include "data/formats/model_source.h"
#include "launch/commands/commands.h"
#include "launch/commands/export_gguf.h"
#include "launch/config/run_config.h"
#include "launch/config/schema.h"
#include "launch/session/fused_adapters.h"
#include "launch/session/learned_rotation.h"
#include "launch/session/model_tensors.h"
#include "launch/session/opened_model.h"
#include "model/export_config.h"
#include "runtime/parse_json.h"
#include "runtime/progress.h"

namespace carillon {
namespace {

// Returns the type that most of the weights have.
std::string weight_type(const ModelSource& source) {
  std::map<std::string, int64_t> elements;
  for (const std::string& name : source.tensor_names()) {
    const Hdf5File::Dataset stored = source.stored(name);
    elements[name_of(stored.type)] += Rectangle::whole(stored.shape).count();
  }
  return std::max_element(elements.begin(), elements.end(), [](auto& a, auto& b) { return a.second < b.second; })
      ->first;
}

// Parses the exported config.json as another program would: without our own key.
ModelConfig as_others_read(const std::string& text, const std::string& where) {
  Json json = parse_json(text, where);
  json.erase("carillon_rope");
  return parse_model_config(json.dump(), where);
}

struct ExportSettings {
  std::string format = "hf";
  std::optional<std::string> dtype;
  std::optional<std::string> adapter;
  bool overwrite = false;
};

void declare(Schema& schema, ExportSettings& settings) {
  schema.section("", "Options.");
  schema.choice("format", settings.format, {{"hf", "hf"}, {"peft", "peft"}, {"gguf", "gguf"}},
                "hf: a Hugging Face folder, with any adapter merged into the weights. peft: only the adapter, for "
                "PEFT. gguf: one file for llama.cpp.");
  schema.choice("dtype", settings.dtype, {{"f32", "f32"}, {"f16", "f16"}, {"bf16", "bf16"}, {"q8_0", "q8_0"}},
                "Type of the matrices in a gguf file. Default: that of the weights.");
  declare_adapter_path(schema, settings.adapter);
  schema.boolean(
      "overwrite", settings.overwrite,
      "Allows files to be replaced in a folder that is not a model's. A model's folder is replaced in any case.");
}

// Returns the type in which an adapter was trained, from a run's checkpoint. The type in a PEFT folder says nothing
// about its base's.
std::optional<StoredType> trained_type(const ModelSource& source, const std::string& tensor) {
  if (source.adapter()->base_hash.empty()) return std::nullopt;
  return source.stored(tensor).type;
}

std::unique_ptr<ModelSource> merged(std::unique_ptr<ModelSource> source, const AdapterConfig& adapter) {
  std::map<std::string, Merge> merges;
  for (const auto& [name, module] : adapter.modules)
    merges[name + ".weight"] = {adapter_a_name(name), adapter_b_name(name), adapter.scale(module)};
  const auto type = trained_type(*source, adapter_a_name(adapter.modules.begin()->first));
  return merge_source(std::move(source), std::move(merges), type);
}

void export_peft(Program& program, OpenedModel& model, const std::string& folder) {
  const ModelConfig& config = model.config;
  if (!config.adapter)
    fail(ExitCode::kUsage, "there is no adapter, {}, use format=hf, or name one in adapter=PATH", model.source->path());
  // An adapter's folder does not contain the rotation if it differs from the base's.
  const ModelSource* base = model.source->base();
  const ModelConfig of_base = parse_model_config(base->config_json(), base->path());
  const std::string own = write_model_config(config);
  const bool turned = write_model_config(of_base) != own;
  const std::string base_config = turned ? export_model_config(config, weight_type(*base)) : "";
  if (turned)
    program.warning(
        fmt::format("an adapter does not carry the run's rope: load the base with {}/base_config/config.json", folder));
  auto [fused, adapter] = fuse_adapters(config);
  const auto source = join_adapter(std::move(model.source), std::move(fused));
  const ExportCounts counts =
      export_adapter(*source, write_adapter_config(adapter, config, model.base_path), base_config, folder);
  fmt::print("{}: an adapter of {} tensors, {:.1f} MiB, for the base {}\n", printable(folder), counts.tensors,
             static_cast<double>(counts.bytes) / (1 << 20), printable(model.base_path));
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
         "export takes a model and an output, on the command line, carillon export MODEL OUT [format=hf|peft|gguf]");
  if (settings.dtype && !gguf)
    fail(ExitCode::kUsage, "dtype={} belongs to format=gguf, on the command line, format={} keeps every tensor's type",
         *settings.dtype, format);
  const auto world = program.make_world();
  agree(*world, [&] {
    if (world->rank() != 0) return;
    const Activity activity("exporting a model");
    OpenedModel model = open_model(*solo_communicator("export"), line.files[0], Json::object(), program.notice(),
                                   settings.adapter.value_or(""));
    check_output(line.files[1], {line.files[0], settings.adapter.value_or(""), model.base_path},
                 gguf ? OutputKind::kGguf : OutputKind::kModelFolder, settings.overwrite);
    if (format == "peft") return export_peft(program, model, line.files[1]);
    ModelConfig config = model.config;
    std::unique_ptr<ModelSource> source = std::move(model.source);
    if (config.adapter) source = merged(std::move(source), std::exchange(config.adapter, {}));
    if (config.rope.type == RopeType::kClex) {
      config.rope.dynamics = read_learned_rotation(*source, config.rope, config.rotary_pairs());
      if (gguf && !config.rope.length)
        fail(ExitCode::kUsage,
             "rope type clex goes by the length of the text, which llama.cpp's rotation does not, export format=gguf, "
             "use format=hf, or train with rope.length");
      if (!config.rope.length)
        program.warning(
            "rope type clex is written as longrope: beyond the original length with the frequencies of the largest "
            "stretch, whatever the length");
      config.rope = clex_as_longrope(config.rope, config.rotary_pairs());
      config.source["max_position_embeddings"] = config.max_position_embeddings = std::max(
          config.max_position_embeddings,
          static_cast<int64_t>(config.rope.factor * static_cast<double>(config.rope.original_max_position_embeddings)));
      source = without_learned_rotation(std::move(source));
    }
    if (gguf)
      return export_as_gguf(program, *source, config, settings.dtype.value_or(""), weight_type(*source), line.files[1]);
    source = join_source(std::move(source), fused_tensors(config));
    const std::string text = export_model_config(config, weight_type(*source));
    const ExportCounts counts = export_model(*source, text, line.files[1]);
    // Read again as another program would.
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
