// What a rank does and how long it takes, as spans: added up by name for `--profile`, and written one by one for
// `runtime.trace`, as the JSON that Perfetto and Chrome's about:tracing show. Where no trace was started on this thread
// a span costs one look at a pointer.
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

  // One name's sum.
  struct Entry {
    std::string name;
    int64_t calls = 0;
    double seconds = 0;
    double flop = 0;  // useful floating-point operations; 0: not counted
  };

  // Collects spans of the thread that makes it, until it is destroyed. events: keep each of them for events_json().
  Trace(int rank, bool events);
  ~Trace();
  Trace(const Trace&) = delete;
  static Trace* current();

  // Sums of what ended so far, longest first. Spans inside another are counted in their own name only: a span's time is
  // that of the thread while no inner span is open.
  std::vector<Entry> entries() const;
  double seconds() const;  // since it was made
  // The events since the last call, each as a line "{…},\n" of a JSON array.
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
  double epoch_;  // of start_, so that ranks' events lie side by side
  std::map<std::string, int, std::less<>> index_;
  std::vector<Entry> entries_;
  std::vector<Open> open_;
  std::vector<Event> events_;
};

// From its construction to its end.
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

// A table of the entries, line by line: name, calls, seconds, share, GFLOP/s; what no span covers is in a row of
// its own.
std::vector<std::string> profile_table(const std::vector<Trace::Entry>& entries, double seconds);

}  // namespace carillon
