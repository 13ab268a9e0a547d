#include "data/files/sealed_process.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <vector>

namespace carillon {
namespace {

// By name, because the numbers depend on the architecture. Lists only calls that every architecture has.
constexpr unsigned kAllowed[] = {SYS_read,
                                 SYS_pread64,
                                 SYS_readv,
                                 SYS_write,
                                 SYS_lseek,
                                 SYS_close,
                                 SYS_fstat,
                                 SYS_mmap,
                                 SYS_munmap,
                                 SYS_mremap,
                                 SYS_mprotect,
                                 SYS_madvise,
                                 SYS_brk,
                                 SYS_futex,
                                 SYS_rt_sigreturn,
                                 SYS_rt_sigaction,
                                 SYS_getrusage,
                                 SYS_clock_gettime,
                                 SYS_exit,
                                 SYS_exit_group,
                                 SYS_getpid,
                                 SYS_gettid,
                                 SYS_tgkill,
                                 SYS_rt_sigprocmask,
                                 SYS_getrandom,
                                 SYS_sched_getaffinity,
                                 SYS_clock_nanosleep};

#if defined(__x86_64__)
constexpr unsigned kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr unsigned kArchitecture = 0;
#endif

}  // namespace

void seal_process() {
  if (kArchitecture == 0) return;
  const auto at = [](size_t offset) {
    return sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<unsigned>(offset));
  };
  const sock_filter refuse = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  const sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  std::vector<sock_filter> program{at(offsetof(seccomp_data, arch)),
                                   BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0), refuse,
                                   at(offsetof(seccomp_data, nr))};
  for (const unsigned call : kAllowed) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    program.push_back(allow);
  }
  program.push_back(refuse);
  sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  (void)prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

}  // namespace carillon
