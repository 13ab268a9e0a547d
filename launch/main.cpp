// Start and end of every command: the command line in, an exit code out, and one line about what went wrong.
#include <cstdio>
#include <exception>
#include <new>

#include "launch/commands/command_line.h"
#include "launch/session/same_inputs.h"
#include "parallel/injected_fault.h"

namespace carillon {
namespace {

std::vector<std::string> words_of(const CommandLine& line) {
  std::vector<std::string> words{line.command};
  words.insert(words.end(), line.files.begin(), line.files.end());
  words.insert(words.end(), line.overrides.begin(), line.overrides.end());
  return words;
}

int run(Program& program, int count, char** arguments) {
  try {
    const ParsedLine parsed = parse_command_line(count, arguments);
    if (parsed.print) {
      if (program.main_rank()) std::fputs(parsed.print->c_str(), stdout);
      return 0;
    }
    if (const auto name = name_of_active_fault(); !name.empty() && program.main_rank())
      program.warning(fmt::format("CARILLON_TEST_BREAK={}: results are wrong on purpose", name));
    if (program.ranks() > 1) require_same_command(*program.make_world(), words_of(parsed.line), parsed.line.files);
    return static_cast<int>(parsed.command->run(program, parsed.line));
  } catch (const Error& error) {
    return program.leave_with_error(static_cast<int>(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return program.leave_with_error(
        static_cast<int>(ExitCode::kInputOutput),
        "out of memory, on this machine, use more ranks, shorter sequences or train.recompute=full");
  } catch (const std::exception& error) {
    return program.leave_with_error(static_cast<int>(ExitCode::kInternal),
                                    fmt::format("{}, inside carillon, please report this", error.what()));
  }
}

}  // namespace
}  // namespace carillon

int main(int count, char** arguments) {
  try {
    carillon::Program program;
    return carillon::run(program, count, arguments);
  } catch (const carillon::Error& error) {
    std::fprintf(stderr, "carillon: error: %s\n", error.what());
    return static_cast<int>(error.code());
  }
}
