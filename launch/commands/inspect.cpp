// carillon inspect: prints the contents of a model, checkpoint or token file.
#include "data/formats/inspect.h"

#include "launch/commands/commands.h"
#include "runtime/text.h"

namespace carillon {
namespace {

// Makes text from a file safe for the terminal.
std::string shown(const Json& value) {
  return printable(value.is_string() ? value.get<std::string>()
                                     : value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void print(const Json& found) {
  for (const auto& [key, value] : found.items()) {
    if (key == "tensors") continue;
    if (value.is_object()) {
      fmt::print("{}:\n", printable(key));
      for (const auto& [name, item] : value.items()) fmt::print("  {}: {}\n", printable(name), shown(item));
    } else {
      fmt::print("{}: {}\n", printable(key), shown(value));
    }
  }
  if (!found.contains("tensors")) return;
  fmt::print("tensors: {}\n", found["tensors"].size());
  for (const auto& [name, tensor] : found["tensors"].items())
    fmt::print("  {:<60} {:<9} {:<16} {}\n", printable(name), tensor["dtype"].get<std::string>(),
               tensor["shape"].dump(), tensor.value("hash", ""));
}

}  // namespace

ExitCode run_inspect(Program& program, const CommandLine& line) {
  if (line.files.size() != 1 || !line.overrides.empty())
    fail(ExitCode::kUsage, "inspect takes one file or folder, on the command line, carillon inspect FILE [--json]");
  const auto world = program.make_world();
  agree(*world, [&] {
    if (world->rank() != 0) return;
    const Json found = inspect(line.files[0], [&](const std::string& text) { program.warning(text); });
    if (line.json)
      fmt::print("{}\n", found.dump(2));
    else
      print(found);
  });
  return ExitCode::kDone;
}

}  // namespace carillon
