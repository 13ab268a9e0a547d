// A run's messages to the user: a progress bar on a terminal, plain lines in a file or a batch job's log, and log.txt.
// Only rank 0 writes; on other ranks every call does nothing.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "launch/train/metrics_file.h"

namespace carillon {

class RunLog {
 public:
  // quiet: only warnings on standard error; log.txt is written in full.
  RunLog(std::string folder, bool main_rank, bool quiet);
  ~RunLog();
  RunLog(const RunLog&) = delete;

  // Opens FOLDER/log.txt for appending and first writes the earlier messages to it. Error 73.
  void open_file();

  void notice(const std::string& text);
  void warning(const std::string& text);
  // Reports a step out of max_steps. The first and the last are always shown, the others at most every few seconds.
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
