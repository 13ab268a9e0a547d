// carillon watch: shows a run in the terminal while it progresses, and writes its page.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "data/files/output_check.h"
#include "data/files/output_file.h"
#include "launch/commands/commands.h"
#include "launch/config/schema.h"
#include "launch/report/report.h"
#include "launch/report/run_view.h"
#include "launch/session/run_lock.h"
#include "launch/session/signals.h"
#include "runtime/foreign_error.h"
#include "runtime/json_lines.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct WatchConfig {
  double patience = 60;
  double every = 1, page_every = 30;
};

void declare(Schema& schema, WatchConfig& config) {
  schema.section("", "Options.");
  schema
      .duration("patience", config.patience,
                "How long to wait for a run that is not active: not started yet, requeued, or dead.")
      .at_least(0);
  schema.duration("every", config.every, "Interval between reads of the run's files.").above(0);
  schema.duration("page_every", config.page_every, "Interval between updates of report.html.").above(0);
}

// A file of records that grows, and is cut when the run resumes: then it is read again, otherwise only what is new is
// read. Error 65 naming a line that is not a record.
class GrowingRecords {
 public:
  explicit GrowingRecords(std::string path) : path_(std::move(path)) {}
  // Whether anything is new.
  bool read(std::vector<Json>& records) {
    std::error_code error;
    const auto size = static_cast<int64_t>(fs::file_size(path_, error));
    if (error || size == seen_) return false;
    seen_ = size;
    std::ifstream file(path_, std::ios::binary);
    if (!goes_on(file)) read_to_ = number_ = 0, last_.clear(), file.clear(), file.seekg(0);
    if (read_to_ == 0) records.clear();
    bool any = false;
    for (std::string line; std::getline(file, line) && !file.eof();) {  // the last line may still be written
      read_to_ += static_cast<int64_t>(line.size()) + 1;
      last_ = line;
      ++number_;
      if (is_blank(line)) continue;
      Json record =
          parse_json_object(line, fmt::format("{}:{}", path_, number_), "fix or remove this line, it is not a record");
      // A run that rolled back writes steps again.
      if (const auto step = step_of(record); step && record.contains("loss"))
        while (!records.empty() && step_of(records.back()).value_or(0) >= *step) records.pop_back();
      records.push_back(std::move(record));
      any = true;
    }
    return any;
  }

 private:
  static std::optional<double> step_of(const Json& record) {
    const auto step = record.find("step");
    return step != record.end() && step->is_number() ? std::optional(step->get<double>()) : std::nullopt;
  }

  // Moves to where reading ended last time. False if the line before it is not the one that was read: the file was cut,
  // and perhaps has grown since.
  bool goes_on(std::ifstream& file) const {
    if (read_to_ == 0) return true;
    file.seekg(read_to_ - static_cast<int64_t>(last_.size()) - 1);
    std::string line;
    return std::getline(file, line) && !file.eof() && line == last_;
  }

  std::string path_, last_;  // last_: the line before read_to_
  int64_t seen_ = -1, read_to_ = 0, number_ = 0;
};

// Columns of the terminal; otherwise enough for a log.
size_t columns() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 120;
}

class Watch {
 public:
  Watch(const Program& program, std::string folder, const WatchConfig& config)
      : program_(program),
        config_(config),
        terminal_(isatty(STDOUT_FILENO) == 1),
        metrics_(folder + "/metrics.jsonl"),
        evaluations_(folder + "/evals.jsonl") {
    view_.folder = std::move(folder);
  }

  void run() {
    for (Clock::time_point moved = Clock::now();; std::this_thread::sleep_for(std::chrono::duration<double>(pause()))) {
      // Read before the records, so that those of an ended run are complete.
      const bool ended = look_for_end();
      const bool at_work = !ended && run_is_active(view_.folder);
      const bool is_new = metrics_.read(view_.steps) | evaluations_.read(view_.evaluations);
      if (at_work || is_new) moved = Clock::now();
      const std::chrono::duration<double> still = Clock::now() - moved;
      const bool given_up = !ended && still.count() > config_.patience;
      if (!ended) {
        view_.state = at_work ? RunState::kRunning : RunState::kWaiting;
        view_.detail = given_up ? "it left no word that it ended, and goes on when it is started again" : "";
      }
      show(is_new || ended || given_up);
      write_page(ended || given_up, is_new);
      if (ended || given_up) return;
    }
  }

 private:
  // No longer than patience, or it would run out unnoticed.
  double pause() const { return std::min(config_.every, std::max(config_.patience, 0.1)); }

  // `ended` contains the step and, in a second line, the exit code of a run that failed.
  bool look_for_end() {
    std::ifstream file(view_.folder + "/ended");
    std::string step, code;
    if (!std::getline(file, step)) return false;
    view_.state = std::getline(file, code) ? RunState::kFailed : RunState::kEnded;
    view_.detail = code;
    return true;
  }

  // Redraws in place on a terminal; elsewhere prints only what is new.
  void show(bool is_new) {
    const WorkingOn here(view_.folder);
    const std::vector<std::string> lines = lines_of(view_, columns());
    if (!terminal_ && !is_new) return;
    std::string text;
    if (terminal_ && shown_ > 0) text += fmt::format("\x1b[{}F\x1b[J", shown_);
    for (const std::string& line : lines) text += line + "\n";
    fmt::print("{}", text);
    std::fflush(stdout);
    shown_ = lines.size();
  }

  // Making the page takes a pass over all records, so it is done occasionally and at the end.
  void write_page(bool last, bool is_new) {
    page_is_old_ |= is_new;
    const std::chrono::duration<double> age = Clock::now() - written_;
    if (!page_is_old_ || page_failed_ || (!last && age.count() < config_.page_every)) return;
    written_ = Clock::now();
    page_is_old_ = false;
    try {
      require_own_page();
      write_whole_file(view_.folder + "/report.html", report_html(read_results(view_.folder)));
    } catch (const Error& error) {
      page_failed_ = true;
      program_.warning(fmt::format("the page is not written again: {}", error.what()));
    }
  }

  void require_own_page() const {
    const std::string page = view_.folder + "/report.html";
    try {
      check_output(page, {}, OutputKind::kPage, /*overwrite=*/false);
    } catch (const Error& error) {
      if (error.code() != ExitCode::kUsage) throw;
      fail(ExitCode::kUsage, "this page was not written by carillon and is not replaced, {}, move it away", page);
    }
  }

  const Program& program_;
  WatchConfig config_;
  bool terminal_;
  RunView view_;
  GrowingRecords metrics_, evaluations_;
  size_t shown_ = 0;
  bool page_is_old_ = false, page_failed_ = false;
  Clock::time_point written_ = Clock::now();
};

}  // namespace

std::string help_watch() {
  WatchConfig config;
  Schema schema;
  declare(schema, config);
  return schema.help();
}

ExitCode run_watch(Program& program, const CommandLine& line) {
  WatchConfig config;
  Schema schema;
  declare(schema, config);
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  if (line.files.size() != 1)
    fail(ExitCode::kUsage, "watch takes one run's folder, on the command line, carillon watch RUN");
  const std::string& folder = line.files[0];
  if (!program.main_rank()) return ExitCode::kDone;
  if (!fs::is_directory(folder))
    fail(fs::exists(folder) ? ExitCode::kBadInput : ExitCode::kMissingInput,
         "there is no run's folder, {}, name the output of a run", folder);
  if (!fs::exists(folder + "/config.yaml") && !fs::exists(folder + "/metrics.jsonl") && !run_is_active(folder))
    fail(ExitCode::kMissingInput, "holds no run, {}, name the output of a run", folder);
  set_stop_mode(StopMode::kDefault);  // there is nothing to save
  Watch(program, folder, config).run();
  return ExitCode::kDone;
}

}  // namespace carillon
