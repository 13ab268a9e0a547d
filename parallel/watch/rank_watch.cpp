#include "parallel/watch/rank_watch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "parallel/watch/machine_links.h"
#include "parallel/watch/siblings.h"
#include "parallel/watch/thread_sampler.h"
#include "runtime/error.h"
#include "runtime/progress.h"

namespace carillon {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kShownRanks = 8;               // number of ranks whose histories are printed
constexpr int kShownOperations = 12;         // per rank
constexpr double kSecondsForALine = 3;       // how long the other ranks wait for the one that prints
constexpr double kSecondsOfBrokenLink = 10;  // a launcher that sees the rank end is faster

std::string host() {
  char name[128] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

// What is observed of one rank of this machine, this one included.
struct Seen {
  int pid = 0;
  int rank = 0;
  const ProgressRecord* record = nullptr;
  uint64_t moved = 0;
  double unmoved = 0;  // on the watch's clock
  double stopped = 0;
  bool gone = false;

  bool waits() const { return record->waits.load() > 0; }
  // It claims to wait in MPI, but no sample of its main thread was inside the MPI library.
  bool spins_outside_mpi() const { return record->samples.load() >= 5 && record->samples_in_mpi.load() == 0; }
  std::string place() const { return (spins_outside_mpi() ? "outside MPI " : "") + describe_place(*record); }
};

struct Finding {
  int code = static_cast<int>(ExitCode::kLostPeer);
  std::string line;
};

std::string history_of(const Seen& seen) {
  return fmt::format("  rank {} (process {}), {}:\n{}", seen.rank, seen.pid, seen.place(),
                     describe_history(*seen.record, kShownOperations));
}

}  // namespace

struct RankWatch::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool stop = false;
  std::thread thread;

  Siblings siblings;
  std::vector<Seen> seen;
  std::unique_ptr<MachineLinks> links;  // once MPI is up
  double next_look = 0, running = 0, found_for = 0, spoken_for = 0;

  void run();
  void observe(double seconds);
  void look_for_siblings();
  bool all_known() const;
  double machine_unmoved() const;
  bool machine_waits() const;
  std::string places() const;
  std::optional<Finding> find(double limit) const;
  std::optional<Finding> all_wait(double limit) const;
  void leave_if(const std::optional<Finding>& finding, double seconds);
  [[noreturn]] void speak(const Finding& finding);
};

namespace {

std::atomic<int> at_work{0};  // pid of the process that works; child processes may exit

// exit() in the middle of work: some library's way to report a failure. The others would wait for ever, and the
// launcher would take the exit code, which may be 0, for this rank's.
void left_early() {
  if (at_work.load() != getpid() || progress().speaking.load() != 0) return;
  const std::string text = fmt::format(
      "carillon: error: rank {} ended in the middle of its work: a library called exit, on {}, {}, look at what it "
      "said before and start again\n",
      progress().rank, host(), describe_place(progress()));
  (void)!write(STDERR_FILENO, text.data(), text.size());
  _exit(static_cast<int>(ExitCode::kLostPeer));
}

}  // namespace

RankWatch::RankWatch() : state_(std::make_unique<State>()) {
  at_work.store(getpid());
  std::atexit(left_early);
  prepare_samples();
  state_->seen.push_back({getpid(), progress().rank, &progress(), 0, 0, 0, false});
  state_->thread = std::thread([this] { state_->run(); });
}

void RankWatch::expect_exit() { at_work.store(0); }

RankWatch::~RankWatch() {
  expect_exit();
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->changed.notify_all();
  state_->thread.join();
}

void RankWatch::connect(Communicator& world) {
  auto links = std::make_unique<MachineLinks>(world);
  const std::lock_guard lock(state_->mutex);
  progress().rank = world.rank();
  progress().ranks = world.size();
  state_->links = std::move(links);
  state_->next_look = 0;
}

void RankWatch::State::run() {
  std::unique_lock lock(mutex);
  Clock::time_point last = Clock::now();
  for (double interval = 0.05; !stop;) {
    changed.wait_for(lock, std::chrono::duration<double>(interval));
    if (stop) return;
    const Clock::time_point now = Clock::now();
    // Time in which this thread did not run counts for no rank: the machine is busy, or the job was suspended.
    const double seconds = std::min(std::chrono::duration<double>(now - last).count(), 2 * interval);
    last = now;
    const double limit = patience();
    interval = limit > 0 ? std::clamp(limit / 20, 0.05, 0.5) : 0.5;
    observe(seconds);
    if (links) {
      links->exchange({machine_unmoved(), machine_waits(), places()}, seconds);
      if (links->told_to_end() != 0) _exit(links->told_to_end());
    }
    leave_if(limit > 0 ? find(limit) : std::nullopt, seconds);
  }
}

void RankWatch::State::look_for_siblings() {
  if (links) {
    std::vector<int> pids;
    for (const MachineLinks::Process& process : links->here()) pids.push_back(process.pid);
    siblings.look_at(pids);
  } else {
    siblings.look();
  }
  std::erase_if(seen, [&](const Seen& each) {
    return each.pid != getpid() && std::none_of(siblings.all().begin(), siblings.all().end(),
                                                [&](const Sibling& sibling) { return sibling.pid == each.pid; });
  });
  for (const Sibling& sibling : siblings.all())
    if (std::none_of(seen.begin(), seen.end(), [&](const Seen& each) { return each.pid == sibling.pid; }))
      seen.push_back({sibling.pid, sibling.rank, sibling.record, 0, 0, 0, false});
  std::sort(seen.begin(), seen.end(), [](const Seen& a, const Seen& b) { return a.rank < b.rank; });
}

void RankWatch::State::observe(double seconds) {
  running += seconds;
  if (running >= next_look) {
    look_for_siblings();
    // Processes appear within the first seconds, or later on a slow machine.
    next_look = running + (all_known() && links ? 60 : running < 60 ? 0.5 : 5);
  }
  for (Seen& each : seen) {
    const uint64_t moved = each.record->moved.load();
    each.unmoved = moved == each.moved ? each.unmoved + seconds : 0;
    each.moved = moved;
    if (each.pid == getpid()) continue;
    const char state = state_of_process(each.pid);
    each.gone = state == '\0' || state == 'Z' || state == 'X';
    each.stopped = state == 'T' ? each.stopped + seconds : 0;
  }
  ProgressRecord& own = progress();
  const Seen& self = *std::find_if(seen.begin(), seen.end(), [](const Seen& each) { return each.pid == getpid(); });
  if (self.unmoved == 0) {
    own.samples.store(0);
    own.samples_in_mpi.store(0);
  } else if (patience() > 0 && self.unmoved > patience() / 2 && self.waits() && own.samples.load() < 200) {
    for (int i = 0; i < 4; ++i) take_sample(own);
  }
}

bool RankWatch::State::all_known() const {
  return !links || std::all_of(links->here().begin(), links->here().end(), [&](const MachineLinks::Process& process) {
    return std::any_of(seen.begin(), seen.end(), [&](const Seen& each) { return each.pid == process.pid; });
  });
}

double RankWatch::State::machine_unmoved() const {
  double least = running;
  for (const Seen& each : seen)
    if (!each.gone) least = std::min(least, each.unmoved);
  return least;
}

bool RankWatch::State::machine_waits() const {
  return all_known() &&
         std::all_of(seen.begin(), seen.end(), [](const Seen& each) { return each.gone || each.waits(); });
}

std::string RankWatch::State::places() const {
  std::string text;
  for (const Seen& each : seen)
    if (!each.gone && text.size() < 400)
      text += fmt::format("{}rank {} {}", text.empty() ? "" : "; ", each.rank, each.place());
  return text;
}

std::optional<Finding> RankWatch::State::find(double limit) const {
  for (const Seen& each : seen)
    if (!each.gone && each.stopped >= std::min(limit, kStoppedSeconds))
      return Finding{
          static_cast<int>(ExitCode::kLostPeer),
          fmt::format("rank {} has not moved for {:.1f} s: it is stopped by a signal, on {} (process {}), {}, "
                      "continue or end it and start again",
                      each.rank, each.stopped, host(), each.pid, each.place())};
  for (const Seen& each : seen)
    if (!each.gone && !each.waits() && each.stopped == 0 && each.unmoved >= limit)
      return Finding{static_cast<int>(ExitCode::kLostPeer),
                     fmt::format("rank {} has not moved for {:.1f} s: it spins or its disk does not answer, on {} "
                                 "(process {}), {}, look at that machine, or raise runtime.patience if it is slow",
                                 each.rank, each.unmoved, host(), each.pid, each.place())};
  if (links)
    for (const MachineLinks::Machine& machine : links->heard()) {
      if (machine.left) continue;
      if (machine.silence >= (machine.broken ? std::min(limit, kSecondsOfBrokenLink) : limit))
        return Finding{
            static_cast<int>(ExitCode::kLostPeer),
            fmt::format("rank {} and its machine have not been heard of for {:.1f} s: stopped or lost, on {}, "
                        "{}, look at that machine and start again",
                        machine.first_rank, machine.silence, machine.host,
                        machine.report.text.empty() ? "before its first report" : "last " + machine.report.text)};
    }
  return all_wait(limit);
}

std::optional<Finding> RankWatch::State::all_wait(double limit) const {
  if (!machine_waits() || machine_unmoved() < limit) return std::nullopt;
  // A rank that has ended waits for no one; without a rank that waits there is nothing to report.
  if (std::none_of(seen.begin(), seen.end(), [](const Seen& each) { return !each.gone && each.waits(); }))
    return std::nullopt;
  // A rank that has not been sampled yet will be in a moment.
  for (const Seen& each : seen) {
    if (each.stopped > 0) return std::nullopt;
    if (!each.gone && each.record->samples.load() < 5 && each.unmoved < 2 * limit) return std::nullopt;
  }
  const bool alone = !links || links->one_machine();
  if (!alone) {
    // Only the machine of rank 0, which receives from all others, can decide.
    if (seen.front().rank != 0 || links->heard().empty()) return std::nullopt;
    for (const MachineLinks::Machine& machine : links->heard())
      if (!machine.left && (!machine.report.all_wait || machine.report.unmoved < limit)) return std::nullopt;
  }
  for (const Seen& each : seen)
    if (!each.gone && each.spins_outside_mpi())
      return Finding{
          static_cast<int>(ExitCode::kLostPeer),
          fmt::format("rank {} has not moved for {:.1f} s: it spins where it should wait for others in MPI, on "
                      "{} (process {}), {}, look at that process and start again",
                      each.rank, each.unmoved, host(), each.pid, each.place())};
  std::string where = places();
  if (!alone)
    for (const MachineLinks::Machine& machine : links->heard())
      where += fmt::format("; on {}: {}", machine.host, machine.report.text);
  if (!links)
    return Finding{
        static_cast<int>(ExitCode::kLostPeer),
        fmt::format("ranks have waited for others for {:.1f} s: {} of {} have come to {}, {}, look for a rank "
                    "that did not start",
                    limit, seen.size(), progress().ranks, host(), where)};
  const ExitCode code = alone ? ExitCode::kInternal : ExitCode::kLostPeer;
  return Finding{static_cast<int>(code),
                 fmt::format("no rank has moved for {:.1f} s: each waits for another{}, on {}, {}, {}", limit,
                             code == ExitCode::kInternal ? " (collectives are mismatched)" : "", host(), where,
                             code == ExitCode::kInternal ? "report the histories below"
                                                         : "look for a link that is down and start again")};
}

// The lowest rank that is able to speaks; if it does not, the next one does.
void RankWatch::State::leave_if(const std::optional<Finding>& finding, double seconds) {
  int others = 0, code = 0;
  for (const Seen& each : seen) {
    if (each.pid != getpid()) code = std::max(code, each.record->speaking.load());
    others += !each.gone && each.stopped == 0 && each.rank < progress().rank;
  }
  if (code != 0) {
    spoken_for += seconds;
    if (spoken_for > kSecondsForALine) _exit(code);
    return;
  }
  found_for = finding ? found_for + seconds : 0;
  if (finding && found_for >= 0.5 * others) speak(*finding);
}

void RankWatch::State::speak(const Finding& finding) {
  progress().speaking.store(finding.code);
  std::string text = "carillon: error: " + printable(finding.line) + "\n";
  int shown = 0;
  for (const Seen& each : seen)
    if (!each.gone && shown++ < kShownRanks) text += history_of(each);
  for (size_t at = 0; at < text.size();) {
    const ssize_t count = write(STDERR_FILENO, text.data() + at, text.size() - at);
    if (count <= 0) break;
    at += static_cast<size_t>(count);
  }
  if (links) links->end_all(finding.code);
  _exit(finding.code);
}

std::string histories_of_machine() {
  Siblings siblings;
  siblings.look();
  std::vector<Seen> all{{getpid(), progress().rank, &progress(), 0, 0, 0, false}};
  for (const Sibling& sibling : siblings.all())
    all.push_back({sibling.pid, sibling.rank, sibling.record, 0, 0, 0, false});
  std::sort(all.begin(), all.end(), [](const Seen& a, const Seen& b) { return a.rank < b.rank; });
  std::string text;
  for (size_t i = 0; i < all.size() && i < kShownRanks; ++i) text += history_of(all[i]);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace carillon
