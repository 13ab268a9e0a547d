// carillon import: Hugging Face folder to one model file.
#include "data/formats/import.h"

#include <unistd.h>

#include "data/formats/model_source.h"
#include "launch/commands/commands.h"
#include "launch/session/standard_streams.h"
#include "model/config.h"
#include "runtime/text.h"

namespace carillon {

ExitCode run_import(Program& program, const CommandLine& line) {
  if (line.files.size() != 2 || !line.overrides.empty())
    fail(ExitCode::kUsage, "import takes a folder and a file, on the command line, carillon import SOURCE OUT.h5");
  const auto world = program.make_world();
  agree(*world, [&] {
    if (world->rank() != 0) return;
    // An architecture that cannot be run is refused before anything is copied.
    const ModelConfig config = parse_model_config(ModelSource::open(line.files[0])->config_json(), line.files[0]);
    const bool bar = !line.quiet && isatty(STDERR_FILENO) == 1;
    const ImportCounts counts = import_model(line.files[0], line.files[1], [&](int64_t done, int64_t all) {
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
