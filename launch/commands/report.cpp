// carillon report: the page of a run's or a sweep's folder.
#include "launch/report/report.h"

#include "data/files/output_file.h"
#include "launch/commands/commands.h"

namespace carillon {

ExitCode run_report(Program& program, const CommandLine& line) {
  if (line.files.size() != 2 || !line.overrides.empty())
    fail(ExitCode::kUsage, "report takes a folder and a file, on the command line, carillon report RESULTS OUT.html");
  if (!program.main_rank()) return ExitCode::kDone;
  write_whole_file(line.files[1], report_html(read_results(line.files[0])));
  return ExitCode::kDone;
}

}  // namespace carillon
