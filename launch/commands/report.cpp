// carillon report: makes the page of a run's or a sweep's folder.
#include "launch/report/report.h"

#include <filesystem>

#include "data/files/output_check.h"
#include "data/files/output_file.h"
#include "launch/commands/commands.h"
#include "launch/config/schema.h"

namespace carillon {

namespace {

// RESULTS/report.html is a page of ours and a likely output; the folder's other files may not be the output.
void check_report_output(const std::string& results, const std::string& output, bool overwrite) {
  std::vector<std::string> inputs;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(results, error))
    if (entry.path().extension() != ".html") inputs.push_back(entry.path().string());
  check_output(output, inputs, OutputKind::kPage, overwrite);
}

void declare(Schema& schema, bool& overwrite) {
  schema.section("", "Options.");
  schema.boolean("overwrite", overwrite, "Allows a file to be replaced that carillon did not write.");
}

}  // namespace

std::string help_report() {
  bool overwrite = false;
  Schema schema;
  declare(schema, overwrite);
  return schema.help();
}

ExitCode run_report(Program& program, const CommandLine& line) {
  bool overwrite = false;
  Schema schema;
  declare(schema, overwrite);
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  if (line.files.size() != 2)
    fail(ExitCode::kUsage, "report takes a folder and a file, on the command line, carillon report RESULTS OUT.html");
  if (!program.main_rank()) return ExitCode::kDone;
  check_report_output(line.files[0], line.files[1], overwrite);
  write_whole_file(line.files[1], report_html(read_results(line.files[0])));
  return ExitCode::kDone;
}

}  // namespace carillon
