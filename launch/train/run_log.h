// What a person sees of a run: a bar that moves on a terminal, plain lines in a file or a batch job's log; and log.txt.
// Only rank 0 speaks; on the others every call does nothing.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "launch/train/metrics_file.h"

namespace carillon {

class RunLog {
 public:
  // quiet: nothing on standard error but warnings; log.txt is written all the same.
  RunLog(std::string folder, bool main_rank, bool quiet);
  ~RunLog();
  RunLog(const RunLog&) = delete;

  // FOLDER/log.txt, appended to; what was said before is written first. Error 73.
  void open_file();

  void notice(const std::string& text);
  void warning(const std::string& text);
  // One step done of max_steps; the first and the last always show, those between a few seconds apart.
  void step(const StepMetrics& record, int64_t max_steps, int64_t context);
  void finish();  // ends the bar's line

 private:
  void say(const std::string& line, bool on_screen);
  void clear_bar();
  std::string shares_of(const StepMetrics& record);

  std::string path_;
  bool speaks_;
  bool quiet_;
  bool terminal_;
  std::FILE* file_ = nullptr;
  std::string before_file_;
  size_t bar_width_ = 0;
  int64_t first_step_ = -1;
  std::vector<int64_t> source_tokens_;  // since the last line
  std::chrono::steady_clock::time_point begin_, last_line_;
};

// "412 MiB", "3.1 GiB"; "1h 02m", "3m 20s".
std::string readable_bytes(int64_t bytes);
std::string readable_seconds(double seconds);

}  // namespace carillon
