#include "runtime/trace.h"

#include <algorithm>

#include "runtime/check.h"

namespace carillon {
namespace {

thread_local Trace* current_trace = nullptr;

double seconds_between(Trace::Clock::time_point begin, Trace::Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

}  // namespace

Trace* Trace::current() { return current_trace; }

Trace::Trace(int rank, bool events)
    : rank_(rank),
      keep_events_(events),
      start_(Clock::now()),
      epoch_(std::chrono::duration<double, std::micro>(std::chrono::system_clock::now().time_since_epoch()).count()) {
  CHECK(current_trace == nullptr, "one trace at a time on a thread");
  current_trace = this;
}

Trace::~Trace() { current_trace = nullptr; }

void Trace::begin(std::string_view name) {
  auto it = index_.find(name);
  if (it == index_.end()) {
    it = index_.emplace(std::string(name), static_cast<int>(entries_.size())).first;
    entries_.push_back({std::string(name)});
  }
  open_.push_back({it->second, Clock::now(), 0});
}

void Trace::end(double flop) {
  const Open span = open_.back();
  open_.pop_back();
  const double whole = seconds_between(span.begin, Clock::now());
  if (!open_.empty()) open_.back().inner += whole;
  Entry& entry = entries_[static_cast<size_t>(span.entry)];
  entry.calls += 1;
  entry.seconds += whole - span.inner;
  entry.flop += flop;
  if (keep_events_) events_.push_back({span.entry, epoch_ + seconds_between(start_, span.begin) * 1e6, whole * 1e6});
}

std::vector<Trace::Entry> Trace::entries() const {
  std::vector<Entry> sorted = entries_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Entry& a, const Entry& b) { return a.seconds > b.seconds; });
  return sorted;
}

double Trace::seconds() const { return seconds_between(start_, Clock::now()); }

std::string Trace::take_events_json() {
  std::string text;
  for (const Event& event : events_)
    text += fmt::format("{{\"ph\":\"X\",\"pid\":{},\"tid\":0,\"name\":\"{}\",\"ts\":{:.3f},\"dur\":{:.3f}}},\n", rank_,
                        entries_[static_cast<size_t>(event.entry)].name, event.begin, event.duration);
  events_.clear();
  return text;
}

std::vector<std::string> profile_table(const std::vector<Trace::Entry>& entries, double seconds) {
  std::vector<std::string> lines{
      fmt::format("{:<34} {:>9} {:>10} {:>7} {:>9}", "op", "calls", "seconds", "share", "GFLOP/s")};
  const auto row = [&](const std::string& name, const std::string& calls, double spent, const std::string& rate) {
    lines.push_back(
        fmt::format("{:<34} {:>9} {:>10.3f} {:>6.1f}% {:>9}", name, calls, spent, 100 * spent / seconds, rate));
  };
  double covered = 0;
  for (const Trace::Entry& entry : entries) {
    covered += entry.seconds;
    row(entry.name, fmt::format("{}", entry.calls), entry.seconds,
        entry.flop > 0 ? fmt::format("{:.0f}", entry.flop / entry.seconds * 1e-9) : "");
  }
  row("between them", "", seconds - covered, "");
  row("all", "", seconds, "");
  return lines;
}

}  // namespace carillon
