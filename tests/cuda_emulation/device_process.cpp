#include "device_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "executor.h"

namespace carillon_emulation {
namespace {

Executor* running_executor = nullptr;
std::atomic<bool> thread_should_stop{false};
struct sigaction earlier_fault_action[NSIG];

void on_device_failure(const char* message) { running_executor->fail(cudaErrorLaunchFailure, message); }

// A fault in the device process: an address outside device memory, freed memory, or memory after an allocation.
void on_device_fault(int signal, siginfo_t* information, void*) {
  char text[400];
  if (signal == SIGSEGV || signal == SIGBUS) {
    char where[300];
    running_executor->memory().describe(information->si_addr, where, sizeof(where));
    std::snprintf(text, sizeof(text), "illegal address: %s", where);
  } else {
    std::snprintf(text, sizeof(text), "signal %d (%s)", signal, strsignal(signal));
  }
  set_failure_handler([](const char* message) { running_executor->fail(cudaErrorIllegalAddress, message); });
  device_failure("%s", text);
}

// The handlers use an alternate stack, since the fault may be the overflow of a fibre's stack.
void catch_device_faults() {
  static char stack[64 * 1024];
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof(stack);
  sigaltstack(&alternate, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_device_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(signal, &action, nullptr);
}

// Makes this process end with the host process, however that ends. The kernel's own notification (PR_SET_PDEATHSIG)
// comes when the forking thread ends, which may be much earlier, so this uses a pipe that only the host process holds
// open.
void end_with_host(int life_line, int host) {
  std::thread([life_line, host] {
    pollfd waiting{life_line, 0, 0};
    while (getppid() == host) {
      if (poll(&waiting, 1, 500) > 0 && (waiting.revents & (POLLHUP | POLLERR))) break;
    }
    _exit(0);
  }).detach();
}

[[noreturn]] void be_the_device(HostState& state, int life_line) {
  prctl(PR_SET_NAME, "emulated-gpu");
  // Signals for the program (Ctrl-C, Slurm's warning) are handled by the host process.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) ::signal(signal, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  end_with_host(life_line, state.owner);
  catch_device_faults();
  set_failure_handler(on_device_failure);
  Executor executor(*state.shared, state.device_region, state.options);
  running_executor = &executor;
  executor.run([] { return false; });
  _exit(0);
}

void on_host_fault(int signal, siginfo_t* information, void* context) {
  HostState* state = started_state();
  if (state && information->si_addr >= state->device_region.base &&
      information->si_addr < state->device_region.base + state->device_region.span) {
    char text[300];
    const Allocation* allocation = state->allocation_of(information->si_addr);
    const int length = std::snprintf(
        text, sizeof(text), "emulated device: host code touched device memory: address %p, %s %p of %zu bytes\n",
        information->si_addr, allocation ? "in the allocation at" : "in no allocation",
        static_cast<void*>(allocation ? allocation->pointer : nullptr), allocation ? allocation->bytes : 0);
    [[maybe_unused]] const auto written = write(STDERR_FILENO, text, static_cast<std::size_t>(length));
  }
  const struct sigaction& earlier = earlier_fault_action[signal];
  if (earlier.sa_flags & SA_SIGINFO) return earlier.sa_sigaction(signal, information, context);
  // The fault happens again when this returns, and then reaches the earlier handler.
  sigaction(signal, &earlier, nullptr);
}

}  // namespace

void start_device_process(HostState& state) {
  state.owner = getpid();
  if (!state.options.own_process) {
    thread_should_stop = false;
    set_failure_handler(on_device_failure);
    state.executor = std::thread([&state] {
      Executor executor(*state.shared, state.device_region, state.options);
      running_executor = &executor;
      executor.run([] { return thread_should_stop.load(); });
    });
    return;
  }
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    std::perror("emulated devices: pipe");
    std::_Exit(70);
  }
  std::fflush(nullptr);
  state.child = fork();
  if (state.child < 0) {
    std::perror("emulated devices: fork");
    std::_Exit(70);
  }
  if (state.child == 0) {
    close(ends[1]);
    be_the_device(state, ends[0]);
  }
  close(ends[0]);
  state.life_line = ends[1];
}

void end_device_process(HostState& state) {
  if (state.executor.joinable()) {
    thread_should_stop = true;
    state.shared->doorbell.fetch_add(1);
    wake_all(state.shared->doorbell);
    if (state.shared->error.load() != 0)
      state.executor.detach();  // it has stopped for good
    else
      state.executor.join();
  }
  if (state.life_line >= 0) close(state.life_line);
  state.life_line = -1;
  if (state.child > 0) {
    kill(state.child, SIGKILL);
    waitpid(state.child, nullptr, 0);
  }
  state.child = 0;
}

bool device_process_lost(HostState& state) {
  if (state.child <= 0) return false;
  int status = 0;
  const int ended = waitpid(state.child, &status, WNOHANG);
  if (ended == 0) return false;
  state.child = 0;
  if (state.shared->error.load() == 0) {
    std::snprintf(state.shared->message, sizeof(state.shared->message), "emulated device: its process ended (%s %d)",
                  WIFSIGNALED(status) ? "signal" : "status",
                  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    std::fprintf(stderr, "%s\n", state.shared->message);
    state.shared->error.store(cudaErrorLaunchFailure);
  }
  return true;
}

void explain_host_faults() {
  static bool done = false;
  if (done) return;
  done = true;
  struct sigaction action {};
  action.sa_sigaction = on_host_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (const int signal : {SIGSEGV, SIGBUS}) sigaction(signal, &action, &earlier_fault_action[signal]);
}

}  // namespace carillon_emulation
