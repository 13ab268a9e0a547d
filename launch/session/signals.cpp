#include "launch/session/signals.h"

#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <ctime>

#include "data/files/temporaries.h"
#include "runtime/error.h"
#include "runtime/stop_request.h"

namespace carillon {
namespace {

constexpr int kSignals[] = {SIGUSR1, SIGUSR2, SIGTERM, SIGHUP, SIGXCPU};
constexpr int64_t kOneRequest = 1'000'000'000;  // nanoseconds within which several signals count as one request
constexpr int kMicrosecondsToLeave = 500'000;   // in addition to one second

std::atomic<int> first_number{0};
std::atomic<int64_t> first_time{0};
std::atomic<StopMode> mode_now{StopMode::kPreparing};

int64_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// Uses setitimer rather than a thread: nothing else is reliable while a library loads or a file system hangs.
void leave_soon() {
  itimerval timer{};
  timer.it_value.tv_sec = 1;
  timer.it_value.tv_usec = kMicrosecondsToLeave;
  setitimer(ITIMER_REAL, &timer, nullptr);
}

void receive(int number) {
  if (first_number.load() != 0) {
    // The system repeats this one with every further second of the processor, up to the hard limit.
    if (number == SIGXCPU) return;
    if (now() - first_time.load() <= kOneRequest) return;
    remove_temporaries();
    _exit(128 + number);
  }
  first_time.store(now());
  first_number.store(number);
  request_stop();
  if (mode_now.load() == StopMode::kPreparing) leave_soon();
}

void overdue(int) {
  if (mode_now.load() != StopMode::kPreparing || !stop_requested()) return;
  constexpr char kText[] = "carillon: stopped by a signal; nothing is lost, the same command does it again\n";
  (void)!write(STDERR_FILENO, kText, sizeof kText - 1);
  remove_temporaries();
  _exit(static_cast<int>(ExitCode::kStopped));
}

void handle(int number, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction(number, &action, nullptr);
}

// Whoever started the program wants it to outlive the terminal (nohup) or its Ctrl-C (a shell's background).
bool outlives(int number) {
  struct sigaction action {};
  return (number == SIGHUP || number == SIGINT) && sigaction(number, nullptr, &action) == 0 &&
         action.sa_handler == SIG_IGN;
}

void clean_up_and_die(int number) {
  remove_temporaries();
  raise(number);
}

// The signal's own action, but half-written files go first.
void die_of(int number) {
  if (outlives(number)) return;
  struct sigaction action {};
  action.sa_handler = clean_up_and_die;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
  sigaction(number, &action, nullptr);
}

}  // namespace

void catch_signals() {
  for (const int number : kSignals)
    if (!outlives(number)) handle(number, receive);
  die_of(SIGINT);
  handle(SIGALRM, overdue);
  handle(SIGPIPE, SIG_IGN);
  handle(SIGXFSZ, SIG_IGN);
}

void set_stop_mode(StopMode mode) {
  mode_now.store(mode);
  if (mode == StopMode::kPreparing && stop_requested()) leave_soon();
  if (mode != StopMode::kDefault) return;
  for (const int number : kSignals) die_of(number);
  if (first_number.load() != 0) raise(first_number.load());
}

}  // namespace carillon
