// The commands: one function each in a file of the same name, all listed in one table (command_table.cpp).
#pragma once

#include <string>
#include <vector>

#include "launch/commands/program.h"
#include "runtime/error.h"

namespace carillon {

// The parts of `carillon COMMAND files… key=value…`.
struct CommandLine {
  std::string command;
  std::vector<std::string> files;
  std::vector<std::string> overrides;
  bool json = false;
  bool quiet = false;
  bool profile = false;
};

ExitCode run_train(Program& program, const CommandLine& line);
ExitCode run_score(Program& program, const CommandLine& line);
ExitCode run_import(Program& program, const CommandLine& line);
ExitCode run_eval(Program& program, const CommandLine& line);
ExitCode run_generate(Program& program, const CommandLine& line);
ExitCode run_export(Program& program, const CommandLine& line);
ExitCode run_inspect(Program& program, const CommandLine& line);
ExitCode run_report(Program& program, const CommandLine& line);
ExitCode run_rope(Program& program, const CommandLine& line);
ExitCode run_plan(Program& program, const CommandLine& line);
ExitCode run_posgen(Program& program, const CommandLine& line);
ExitCode run_slurm(Program& program, const CommandLine& line);
ExitCode run_sweep(Program& program, const CommandLine& line);
ExitCode run_tokenize(Program& program, const CommandLine& line);
ExitCode run_verify(Program& program, const CommandLine& line);
ExitCode run_bench(Program& program, const CommandLine& line);
ExitCode run_watch(Program& program, const CommandLine& line);
ExitCode run_info(Program& program, const CommandLine& line);

// Keys of the commands that have a configuration, for `carillon COMMAND --help`.
std::string help_train();
std::string help_score();
std::string help_eval();
std::string help_export();
std::string help_generate();
std::string help_import();
std::string help_report();
std::string help_rope();
std::string help_slurm();
std::string help_sweep();
std::string help_plan();
std::string help_posgen();
std::string help_tokenize();
std::string help_verify();
std::string help_bench();
std::string help_watch();
std::string help_info();

struct Command {
  std::string name;
  std::string usage;    // "train CONFIG.yaml [key=value…]"
  std::string summary;  // one line
  std::string details;  // what the user needs to know before using it
  std::string example;  // can be run as it is
  ExitCode (*run)(Program&, const CommandLine&) = nullptr;
  std::string (*keys)() = nullptr;  // nullptr: there are none
  // If a signal stops it, it exits with 85 and continues from there when it is started again
  // (launch/session/signals.h).
  bool stoppable = false;
};

const std::vector<Command>& command_table();

}  // namespace carillon
