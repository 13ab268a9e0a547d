// Start and end of every command: reads the command line, returns an exit code, and reports an error in one line.
#include <malloc.h>

#include <cstdio>
#include <exception>

#include "launch/commands/command_line.h"
#include "launch/commands/foreign_exceptions.h"
#include "launch/config/early_patience.h"
#include "launch/session/brief_waits.h"
#include "launch/session/same_inputs.h"
#include "launch/session/signals.h"
#include "launch/session/standard_streams.h"
#include "parallel/injected_fault.h"
#include "runtime/foreign_error.h"
#include "runtime/stop_request.h"

namespace carillon {
namespace {

std::vector<std::string> words_of(const CommandLine& line) {
  std::vector<std::string> words{line.command};
  words.insert(words.end(), line.files.begin(), line.files.end());
  words.insert(words.end(), line.overrides.begin(), line.overrides.end());
  return words;
}

ExitCode run_command(Program& program, const ParsedLine& parsed) {
  if (parsed.print) {
    if (program.main_rank()) std::fputs(parsed.print->c_str(), stdout);
    return ExitCode::kDone;
  }
  // Only commands that save their state for the next start react to a signal themselves.
  if (!parsed.command->stoppable) set_stop_mode(StopMode::kDefault);
  if (const auto name = name_of_active_fault(); !name.empty() && program.main_rank())
    program.warning(fmt::format("CARILLON_TEST_BREAK={}: results are wrong on purpose", name));
  if (program.ranks() > 1) require_same_command(*program.make_world(), words_of(parsed.line), parsed.line.files);
  return parsed.command->run(program, parsed.line);
}

int run(Program& program, int count, char** arguments) {
  try {
    const ParsedLine parsed = parse_command_line(count, arguments);
    const ExitCode code = run_command(program, parsed);
    if (program.main_rank()) finish_standard_output();
    return static_cast<int>(code);
  } catch (...) {
    const Error error = naming_standard_output(error_in_flight());
    return program.leave_with_error(static_cast<int>(error.code()), error.what());
  }
}

// Makes allocations from this size on separate mappings, which return to the system when they are freed. By default
// glibc raises the limit when the first of them is freed. The workspaces that oneDNN allocates in each call of some
// products (5 MiB per thread) then fragment the heap: 40 MiB after five steps of a small model.
void bound_the_heap() { mallopt(M_MMAP_THRESHOLD, 4 << 20); }

}  // namespace
}  // namespace carillon

// Runs before the libraries are initialised.
__attribute__((section(".preinit_array"),
               used)) static void (*const before_libraries)(int, char**, char**) = carillon::start_with_brief_waits;

int main(int count, char** arguments) {
  carillon::bound_the_heap();
  carillon::catch_signals();
  carillon::reserve_standard_descriptors();
  carillon::register_library_exceptions();
  try {
    carillon::set_patience_early(count, arguments);
    carillon::Program program;
    return carillon::run(program, count, arguments);
  } catch (...) {
    const carillon::Error error = carillon::error_in_flight();
    carillon::write_to_screen(carillon::error_text(error.what(), ""));
    return static_cast<int>(error.code());
  }
}
