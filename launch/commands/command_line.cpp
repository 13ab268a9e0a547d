#include "launch/commands/command_line.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <filesystem>

#include "launch/version.h"
#include "runtime/text.h"

namespace carillon {
namespace {

const Command* find(const std::string& name) {
  for (const Command& command : command_table())
    if (command.name == name) return &command;
  return nullptr;
}

std::string general_help() {
  std::string text =
      "carillon: long-context fine-tuning of transformer language models, from a laptop to a cluster.\n\n"
      "usage: carillon COMMAND [files…] [key=value…]\n"
      "       mpirun -n N carillon COMMAND …    the same on N ranks\n\ncommands:\n";
  for (const Command& command : command_table()) text += fmt::format("  {:<10} {}\n", command.name, command.summary);
  return text +
         "\noptions:\n  --help       this, or after a command its keys with their defaults\n"
         "  --version    which carillon this is\n"
         "  --json       one JSON object instead of a table (inspect, rope, info, plan, verify, bench)\n"
         "  --quiet      no progress on standard error\n"
         "  --profile    where the time went, as a table at the end (train)\n";
}

std::string help_of(const Command& command) {
  std::string text = fmt::format("usage: carillon {}\n\n{}.", command.usage, command.summary);
  if (!command.details.empty()) text += " " + command.details;
  text += fmt::format("\n\nexample:\n  {}\n", command.example);
  if (command.keys != nullptr) text += "\n" + command.keys();
  return text;
}

const Command& known(const std::string& name) {
  if (const Command* command = find(name)) return *command;
  std::vector<std::string> names;
  for (const Command& command : command_table()) names.push_back(command.name);
  fail(ExitCode::kUsage,
       "there is no command \"{}\", on the command line, did you mean {}? (carillon --help lists all)", printable(name),
       nearest(name, names));
}

// Settings have no dashes before them and an equals sign between key and value.
[[noreturn]] void refuse_option(const std::string& word) {
  const std::string setting = word.substr(std::min(word.find_first_not_of('-'), word.size()));
  const bool is_setting = setting.find_first_of("=._") != std::string::npos;
  fail(ExitCode::kUsage, "there is no option {}, on the command line, {}", printable(word),
       is_setting
           ? fmt::format("write {}{}", printable(setting), setting.find('=') == std::string::npos ? "=VALUE" : "")
           : fmt::format("did you mean {}? (settings are written key=value)",
                         nearest(word, {"--help", "--version", "--json", "--quiet", "--profile"})));
}

// A shell splits `key = value` into three words.
void refuse_blanks(const std::vector<std::string>& words) {
  for (size_t i = 1; i < words.size(); ++i) {
    std::error_code no_file;
    const bool starts = words[i].starts_with('=') && i > 1;
    const bool ends = i + 1 < words.size() && words[i].ends_with('=') && !words[i + 1].starts_with('-') &&
                      words[i + 1].find('=') == std::string::npos && !std::filesystem::exists(words[i + 1], no_file);
    if (starts || ends)
      fail(ExitCode::kUsage, "blanks around '=' make {} a word of its own, on the command line, write key=value",
           printable(words[i]));
  }
}

}  // namespace

ParsedLine parse_command_line(int count, char** arguments) {
  ParsedLine parsed;
  bool help = false, version = false;
  CLI::App app("carillon");
  app.set_help_flag();
  app.allow_extras();
  app.add_flag("-h,--help", help);
  app.add_flag("--version", version);
  app.add_flag("--json", parsed.line.json);
  app.add_flag("--quiet", parsed.line.quiet);
  app.add_flag("--profile", parsed.line.profile);
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& error) {
    fail(ExitCode::kUsage, "{}, on the command line, see carillon --help", printable(error.what()));
  }
  std::vector<std::string> words = app.remaining();
  for (const std::string& word : words)
    if (word.size() > 1 && word[0] == '-') refuse_option(word);
  if (version) {
    parsed.print = fmt::format("carillon {}\n", kVersion);
    return parsed;
  }
  if (words.empty() || words[0] == "help") {
    if (words.empty() && !help) {
      parsed.print = general_help();
      return parsed;
    }
    parsed.print = words.size() > 1 ? help_of(known(words[1])) : general_help();
    return parsed;
  }
  parsed.command = &known(words[0]);
  if (help) {
    parsed.print = help_of(*parsed.command);
    return parsed;
  }
  parsed.line.command = words[0];
  refuse_blanks(words);
  for (size_t i = 1; i < words.size(); ++i) {
    // An existing name that contains `=` means that file. A word that no file system can look up (a prompt of more than
    // 255 bytes) is not a file.
    std::error_code no_file;
    const bool setting = words[i].find('=') != std::string::npos && !std::filesystem::exists(words[i], no_file);
    (setting ? parsed.line.overrides : parsed.line.files).push_back(words[i]);
  }
  return parsed;
}

}  // namespace carillon
