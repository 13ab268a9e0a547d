// Records what a rank does as timed spans. `--profile` adds them up by name; `runtime.trace` writes each of them, as
// JSON for Perfetto and Chrome's about:tracing. Without a trace on this thread, a span costs one test of a pointer.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace carillon {

class Trace {
 public:
  using Clock = std::chrono::steady_clock;

  // The total of all spans of one name.
  struct Entry {
    std::string name;
    int64_t calls = 0;
    double seconds = 0;
    double flop = 0;  // useful floating-point operations; 0: not counted
  };

  // Collects the spans of the constructing thread until it is destroyed. With `events`, keeps each span for
  // take_events_json().
  Trace(int rank, bool events);
  ~Trace();
  Trace(const Trace&) = delete;
  static Trace* current();

  // Totals of the spans that have ended, longest first. The time of a nested span counts for its own name only: a
  // span's time excludes the spans inside it.
  std::vector<Entry> entries() const;
  double seconds() const;  // since construction
  // Returns and forgets the events recorded since the last call, each as a line "{…},\n" of a JSON array.
  std::string take_events_json();

 private:
  friend class TraceSpan;
  struct Open {
    int entry;
    Clock::time_point begin;
    double inner;  // seconds of spans inside
  };
  struct Event {
    int entry;
    double begin, duration;  // microseconds
  };
  void begin(std::string_view name);
  void end(double flop);

  int rank_;
  bool keep_events_;
  Clock::time_point start_;
  double epoch_;  // start_ in microseconds of the system clock, so that the events of all ranks share one time axis
  std::map<std::string, int, std::less<>> index_;
  std::vector<Entry> entries_;
  std::vector<Open> open_;
  std::vector<Event> events_;
};

// A span from construction to destruction.
class TraceSpan {
 public:
  explicit TraceSpan(std::string_view name, double flop = 0) : trace_(Trace::current()), flop_(flop) {
    if (trace_ != nullptr) trace_->begin(name);
  }
  ~TraceSpan() {
    if (trace_ != nullptr) trace_->end(flop_);
  }
  TraceSpan(const TraceSpan&) = delete;

 private:
  Trace* trace_;
  double flop_;
};

// The entries as the lines of a table: name, calls, seconds, share, GFLOP/s. Time that no span covers has its own row.
std::vector<std::string> profile_table(const std::vector<Trace::Entry>& entries, double seconds);

}  // namespace carillon
