// Blocks all signals in this thread while the object lives. Threads started meanwhile inherit the mask, so that only
// the program's main thread handles signals.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace carillon {

class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace carillon
