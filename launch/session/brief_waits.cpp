#include "launch/session/brief_waits.h"

#include <alloca.h>
#include <immintrin.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstring>

namespace carillon {
namespace {

// Without generate: its waits between regions of 0.1 ms are shorter than a wake-up, and it was no faster.
constexpr const char* kComputing[] = {"train", "score", "eval", "sweep", "verify", "bench"};

const char* value_of(char** environment, const char* name) {
  const size_t length = std::strlen(name);
  for (; *environment != nullptr; ++environment)
    if (std::strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
      return *environment + length + 1;
  return nullptr;
}

bool several_threads(char** environment) {
  const char* threads = value_of(environment, "OMP_NUM_THREADS");
  if (threads != nullptr && *threads != '\0') return std::strcmp(threads, "1") != 0;
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 1;
}

int64_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// libgomp counts the processor's pause instructions, of 10 to 150 cycles each.
int64_t pauses_of(int64_t nanoseconds) {
  constexpr int64_t kTried = 200;
  int64_t least = INT64_MAX;
  for (int attempt = 0; attempt < 3; ++attempt) {  // one attempt may be interrupted
    const int64_t begin = now();
    for (int64_t i = 0; i < kTried; ++i) _mm_pause();
    least = std::min(least, now() - begin);
  }
  return std::max<int64_t>(nanoseconds * kTried / std::max<int64_t>(least, 1), 1);
}

}  // namespace

void start_with_brief_waits(int count, char** arguments, char** environment) {
  bool computes = false;
  for (const char* command : kComputing) computes = computes || (count > 1 && std::strcmp(arguments[1], command) == 0);
  if (!computes || value_of(environment, "GOMP_SPINCOUNT") != nullptr ||
      value_of(environment, "OMP_WAIT_POLICY") != nullptr || !several_threads(environment))
    return;
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) return;
  path[length] = '\0';
  char setting[48] = "GOMP_SPINCOUNT=";
  char* digit = setting + std::strlen(setting);
  char reversed[20];
  int digits = 0;
  for (int64_t left = pauses_of(kSpinNanoseconds); left > 0; left /= 10)
    reversed[digits++] = static_cast<char>('0' + left % 10);
  while (digits > 0) *digit++ = reversed[--digits];
  size_t variables = 0;
  while (environment[variables] != nullptr) ++variables;
  auto** more = static_cast<char**>(alloca((variables + 2) * sizeof(char*)));
  std::memcpy(more, environment, variables * sizeof(char*));
  more[variables] = setting;
  more[variables + 1] = nullptr;
  execve(path, arguments, more);  // if this fails, threads wait as libgomp does by default
}

}  // namespace carillon
