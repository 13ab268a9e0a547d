// Start and end of every command: the command line in, an exit code out, and one line about what went wrong.
#include <cstdio>
#include <exception>
#include <new>

#include "launch/commands/command_line.h"
#include "parallel/injected_fault.h"

namespace carillon {
namespace {

int run(Program& program, int count, char** arguments) {
  try {
    const ParsedLine parsed = parse_command_line(count, arguments);
    if (parsed.print) {
      if (program.main_rank()) std::fputs(parsed.print->c_str(), stdout);
      return 0;
    }
    if (const auto name = name_of_active_fault(); !name.empty() && program.main_rank())
      program.warning(fmt::format("CARILLON_TEST_BREAK={}: results are wrong on purpose", name));
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
