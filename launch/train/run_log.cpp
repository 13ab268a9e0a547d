#include "launch/train/run_log.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "data/files/posix_file.h"
#include "launch/session/standard_streams.h"
#include "runtime/error.h"
#include "runtime/text.h"

namespace carillon {
namespace {

constexpr double kSecondsBetweenLines = 5;

std::string value(const std::optional<double>& number, const char* format) {
  return number ? fmt::format(fmt::runtime(format), *number) : "-";
}

// Columns of the terminal; the bar must not wrap.
size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string readable_bytes(int64_t bytes) {
  const double mebibytes = static_cast<double>(bytes) / (1 << 20);
  return mebibytes < 1024 ? fmt::format("{:.0f} MiB", mebibytes) : fmt::format("{:.1f} GiB", mebibytes / 1024);
}

std::string readable_seconds(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  return fmt::format("{}h {:02}m", whole / 3600, whole / 60 % 60);
}

RunLog::RunLog(std::string folder, bool main_rank, bool quiet)
    : path_(std::move(folder) + "/log.txt"), speaks_(main_rank), quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}

RunLog::~RunLog() {
  clear_bar();
  if (file_ != nullptr) std::fclose(file_);
}

void RunLog::open_file() {
  if (!speaks_) return;
  // A pipe without a reader is an error, not a wait.
  const int descriptor = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
  if (descriptor < 0) fail_to_create("cannot be created", errno, path_, "make the folder writable");
  file_ = fdopen(descriptor, "a");
  std::fputs(before_file_.c_str(), file_);
  std::fflush(file_);
  before_file_.clear();
}

void RunLog::clear_bar() {
  if (bar_width_ == 0) return;
  write_to_screen("\r\x1b[K");
  bar_width_ = 0;
}

void RunLog::say(const std::string& line, bool on_screen) {
  if (!speaks_) return;
  if (on_screen) {
    clear_bar();
    write_to_screen(line + "\n");
  }
  if (file_ != nullptr) {
    std::fprintf(file_, "%s\n", line.c_str());
    std::fflush(file_);
  } else {
    before_file_ += line + "\n";
  }
}

void RunLog::notice(const std::string& text) { say(printable(text), !quiet_); }
void RunLog::warning(const std::string& text) { say("carillon: warning: " + printable(text), true); }

// "  chat 61%, code 39%" of the targets since the last line; empty if no source is named.
std::string RunLog::shares_of(const StepMetrics& record) {
  source_tokens_.resize(record.tokens_by_source.size());
  int64_t all = 0;
  for (size_t i = 0; i < source_tokens_.size(); ++i) all += source_tokens_[i] += record.tokens_by_source[i].second;
  std::string text;
  for (size_t i = 0; i < source_tokens_.size(); ++i)
    text += fmt::format("{}{} {:.0f}%", i > 0 ? ", " : "  ", printable(record.tokens_by_source[i].first),
                        all > 0 ? 100.0 * static_cast<double>(source_tokens_[i]) / static_cast<double>(all) : 0.0);
  return text;
}

void RunLog::step(const StepMetrics& record, int64_t max_steps, int64_t context) {
  if (!speaks_) return;
  const auto now = std::chrono::steady_clock::now();
  const bool first = first_step_ < 0;
  if (first) {
    first_step_ = record.step;
    begin_ = now - std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                       std::chrono::duration<double>(record.seconds));
  }
  const double elapsed = std::chrono::duration<double>(now - begin_).count();
  const double left =
      elapsed / static_cast<double>(record.step - first_step_ + 1) * static_cast<double>(max_steps - record.step);
  const std::string figures =
      fmt::format("step {}/{}  loss {}  lr {:.3g}  norm {}  {:.0f} tok/s  context {}  {}  {} left", record.step,
                  max_steps, value(record.loss, "{:.4f}"), record.lr, value(record.grad_norm, "{:.3g}"),
                  record.tokens_per_second, context, readable_bytes(record.peak_memory_bytes), readable_seconds(left)) +
      shares_of(record);
  const bool line = first || record.step == max_steps ||
                    std::chrono::duration<double>(now - last_line_).count() >= kSecondsBetweenLines;
  if (line) {
    last_line_ = now;
    source_tokens_.clear();
    say(figures, !quiet_ && !terminal_);
  }
  if (quiet_ || !terminal_) return;
  const size_t filled = static_cast<size_t>(20 * record.step / std::max<int64_t>(max_steps, 1));
  std::string bar =
      "[" + std::string(filled, '=') + std::string(20 - std::min<size_t>(filled, 20), ' ') + "] " + figures;
  bar.resize(std::min(bar.size(), terminal_width() - 1));
  write_to_screen("\r\x1b[K" + bar);
  bar_width_ = bar.size();
}

void RunLog::finish() {
  if (bar_width_ == 0) return;
  write_to_screen("\n");
  bar_width_ = 0;
}

}  // namespace carillon
