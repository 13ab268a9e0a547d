// carillon import: converts a Hugging Face folder to one model file.
#include "data/formats/import.h"

#include <unistd.h>

#include "data/files/output_check.h"
#include "data/formats/model_source.h"
#include "launch/commands/commands.h"
#include "launch/config/schema.h"
#include "launch/session/model_tensors.h"
#include "launch/session/standard_streams.h"
#include "runtime/progress.h"
#include "runtime/text.h"

namespace carillon {
namespace {

void declare(Schema& schema, bool& overwrite) {
  schema.section("", "Options.");
  schema.boolean("overwrite", overwrite, "Allows a file to be replaced that carillon did not write.");
}

}  // namespace

std::string help_import() {
  bool overwrite = false;
  Schema schema;
  declare(schema, overwrite);
  return schema.help();
}

ExitCode run_import(Program& program, const CommandLine& line) {
  bool overwrite = false;
  Schema schema;
  declare(schema, overwrite);
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  if (line.files.size() != 2)
    fail(ExitCode::kUsage, "import takes a folder and a file, on the command line, carillon import SOURCE OUT.h5");
  const auto world = program.make_world();
  agree(*world, [&] {
    if (world->rank() != 0) return;
    const Activity activity("importing a model");
    // Refuses a model that could not run or load before anything is copied.
    const HuggingFaceFolder folder(line.files[0]);
    check_output(line.files[1], {line.files[0]}, OutputKind::kModelFile, overwrite);
    for (const std::string& text : folder.notices()) program.warning(text);
    const ModelConfig config = parse_model_config(folder.config_json(), line.files[0]);
    require_readable(folder);
    int64_t elements = 0;
    const std::vector<std::string> names = folder.tensor_names();
    for (const std::string& name : names) elements += Rectangle::whole(folder.find(name)->shape).count();
    for (const std::string& remark : config.remarks) program.warning(remark);
    // The parts of a fused tensor are rows of it.
    std::map<std::string, std::pair<const FusedTensor*, int64_t>> parts;
    const std::vector<FusedTensor> fused = fused_tensors(config);
    for (const FusedTensor& tensor : fused)
      for (const FusedTensor::Part& part : tensor.parts) parts[part.name] = {&tensor, part.rows};
    require_tensors(
        tensors_of(config, static_cast<int64_t>(names.size()), elements, line.files[0]),
        [&](const std::string& name) {
          const auto tensor = folder.find(name);
          if (tensor || !parts.contains(name)) return tensor ? std::optional(tensor->shape) : std::nullopt;
          const auto& [whole, rows] = parts.at(name);
          const auto stored = folder.find(whole->name);
          if (!stored) return std::optional<std::vector<int64_t>>();
          int64_t all = 0;
          for (const FusedTensor::Part& part : whole->parts) all += part.rows;
          std::vector<int64_t> shape = stored->shape;
          if (shape.size() == 2) shape[0] += rows - all;
          return std::optional(shape);
        },
        line.files[0]);
    const bool bar = !line.quiet && isatty(STDERR_FILENO) == 1;
    const ImportCounts counts = import_model(folder, line.files[1], [&](int64_t done, int64_t all) {
      if (bar)
        write_to_screen(fmt::format("\r\x1b[K{:3.0f} %", 100.0 * static_cast<double>(done) / static_cast<double>(all)));
    });
    if (bar) write_to_screen("\r\x1b[K");
    fmt::print("{}: {} tensors, {:.1f} MiB, {} parameters\n", printable(line.files[1]), counts.tensors,
               static_cast<double>(counts.bytes) / (1 << 20), config.parameter_count());
  });
  return ExitCode::kDone;
}

}  // namespace carillon
