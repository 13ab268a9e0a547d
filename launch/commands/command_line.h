// Parses the command line: which command, which files, which key=value, and the text of `--help`.
#pragma once

#include <optional>
#include <string>

#include "launch/commands/commands.h"

namespace carillon {

struct ParsedLine {
  const Command* command = nullptr;
  CommandLine line;
  std::optional<std::string> print;  // help or version: printed to standard output instead of running a command
};

// Fails with error 64 for an unknown command or option, naming the nearest known one.
ParsedLine parse_command_line(int count, char** arguments);

}  // namespace carillon
