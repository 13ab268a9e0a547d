#include "launch/train/signals.h"

#include <unistd.h>
#include <csignal>

namespace carillon {
namespace {

constexpr int kSignals[] = {SIGUSR1, SIGUSR2, SIGTERM};
volatile std::sig_atomic_t received = 0;

void receive(int number) {
  if (received != 0) _exit(128 + number);
  received = number;
}

void handle(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  for (const int number : kSignals) sigaction(number, &action, nullptr);
}

}  // namespace

StopSignals::StopSignals() {
  received = 0;
  handle(receive);
}
StopSignals::~StopSignals() { handle(SIG_DFL); }

bool StopSignals::requested() const { return received != 0; }

}  // namespace carillon
