#include "parallel/watch/thread_sampler.h"

#include <dlfcn.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>

namespace carillon {
namespace {

std::atomic<void*> place{nullptr};
pid_t sampled_thread = 0;

int sample_signal() { return SIGRTMAX - 3; }

void note_place(int, siginfo_t*, void* context) {
#if defined(__x86_64__)
  place.store(reinterpret_cast<void*>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]));
#elif defined(__aarch64__)
  place.store(reinterpret_cast<void*>(static_cast<ucontext_t*>(context)->uc_mcontext.pc));
#else
  (void)context;
#endif
}

// The libraries that MPI consists of, and those it uses to move bytes.
bool belongs_to_mpi(const void* where) {
  Dl_info found{};
  if (dladdr(where, &found) == 0 || found.dli_fname == nullptr) return true;  // the kernel's page: a system call
  const char* slash = std::strrchr(found.dli_fname, '/');
  const char* name = slash == nullptr ? found.dli_fname : slash + 1;
  for (const char* library :
       {"libmpi.",   "libmpich", "libopen-", "mca_",       "libucp",     "libucs", "libuct",   "libpsm",
        "libfabric", "libpmix",  "libevent", "libibverbs", "libhwloc",   "libnl",  "libhcoll", "libsharp",
        "libc.",     "libc-",    "ld-",      "libpthread", "linux-vdso", "libpmi"})
    if (std::strncmp(name, library, std::strlen(library)) == 0) return true;
  return false;
}

}  // namespace

void prepare_samples() {
  sampled_thread = static_cast<pid_t>(syscall(SYS_gettid));
  struct sigaction action {};
  action.sa_sigaction = note_place;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(sample_signal(), &action, nullptr);
}

void take_sample(ProgressRecord& record) {
  place.store(nullptr);
  if (syscall(SYS_tgkill, getpid(), sampled_thread, sample_signal()) != 0) return;
  for (int tries = 0; tries < 50 && place.load() == nullptr; ++tries) usleep(200);
  const void* where = place.load();
  if (where == nullptr) return;
  record.samples.fetch_add(1);
  if (belongs_to_mpi(where)) record.samples_in_mpi.fetch_add(1);
}

}  // namespace carillon
