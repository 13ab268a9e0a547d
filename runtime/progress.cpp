#include "runtime/progress.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>

namespace carillon {
namespace {

ProgressRecord own_record;
std::atomic<double> patience_seconds{1800};
// Only the main thread reports, because tests run ranks as threads of one process.
const pthread_t main_thread = pthread_self();
thread_local const bool tells = pthread_equal(main_thread, pthread_self()) != 0;
thread_local const char* activity_now = "starting";

int64_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

template <size_t N>
void put(char (&to)[N], std::string_view text) {
  const size_t length = std::min(text.size(), N - 1);
  std::memcpy(to, text.data(), length);
  to[length] = '\0';
}

// Another process may be writing `from`: never reads past its end, and replaces everything but printable ASCII.
template <size_t N>
std::string get(const char (&from)[N]) {
  std::string text(from, strnlen(from, N));
  for (char& letter : text)
    if (letter < ' ' || letter > '~') letter = '?';
  return text;
}

void tell(const char* name) {
  activity_now = name;
  put(progress().activity, name);
  count_progress();
}

// CARILLON_TEST_HANG=stop|spin|slowMILLISECONDS@ACTIVITY[:RANK]: makes this rank hang or slow down whenever it begins
// the activity of that name.
void test_hang(const char* name) {
  static const char* const wanted = std::getenv("CARILLON_TEST_HANG");
  if (wanted == nullptr) return;
  const std::string text = wanted;
  const size_t at = text.find('@'), colon = text.rfind(':');
  if (at == std::string::npos || text.substr(at + 1, colon - at - 1) != name) return;
  if (colon != std::string::npos && colon > at && std::atoi(text.c_str() + colon + 1) != progress().rank) return;
  const std::string what = text.substr(0, at);
  if (what == "stop") (void)std::raise(SIGSTOP);
  if (what.starts_with("slow")) usleep(static_cast<useconds_t>(1000 * std::atoi(what.c_str() + 4)));
  if (what == "spin")
    for (volatile bool on = true; on;) {
    }
}

}  // namespace

namespace detail {
std::atomic<ProgressRecord*> shared_progress{&own_record};
}

ProgressRecord& progress() { return *detail::shared_progress.load(std::memory_order_relaxed); }

void share_progress(int rank, int ranks, uint64_t job) {
  progress().rank = rank;
  progress().ranks = ranks;
  const int descriptor = memfd_create(std::string(kProgressName).c_str(), MFD_CLOEXEC);
  if (descriptor < 0) return;
  void* memory = MAP_FAILED;
  if (ftruncate(descriptor, sizeof(ProgressRecord)) == 0)
    memory = mmap(nullptr, sizeof(ProgressRecord), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (memory == MAP_FAILED) {
    close(descriptor);
    return;
  }
  auto* record = new (memory) ProgressRecord;
  record->rank = rank;
  record->ranks = ranks;
  record->job = job;
  detail::shared_progress.store(record);
}

Activity::Activity(const char* name) : before_(activity_now) {
  if (!tells) return;
  tell(name);
  test_hang(name);
}
Activity::~Activity() {
  if (tells) tell(before_);
}

Operation::Operation(Kind kind, const char* what, std::string_view group, int64_t count, int dtype)
    : number_(0), kind_(kind) {
  if (!tells) return;
  ProgressRecord& record = progress();
  number_ = record.operations.load(std::memory_order_relaxed);
  ProgressRecord::Operation& entry = record.ring[number_ % ProgressRecord::kOperations];
  put(entry.what, what);
  put(entry.group, group);
  entry.count = count;
  entry.dtype = dtype;
  entry.end.store(0, std::memory_order_relaxed);
  entry.begin.store(now(), std::memory_order_relaxed);
  record.operations.store(number_ + 1, std::memory_order_release);
  count_progress();
  if (kind_ == Kind::kWait) record.waits.fetch_add(1, std::memory_order_relaxed);
}

Operation::~Operation() {
  if (!tells) return;
  ProgressRecord& record = progress();
  if (kind_ == Kind::kWait) record.waits.fetch_sub(1, std::memory_order_relaxed);
  count_progress();
  record.ring[number_ % ProgressRecord::kOperations].end.store(now(), std::memory_order_relaxed);
}

namespace {

std::string describe(const ProgressRecord::Operation& operation, uint64_t number) {
  std::string text = get(operation.what);
  if (operation.dtype >= 0 && operation.dtype <= static_cast<int>(DType::kUInt8))
    text += fmt::format(" of {} {}", operation.count, name_of(static_cast<DType>(operation.dtype)));
  const std::string group = get(operation.group);
  if (!group.empty()) text += " on " + group;
  return text + fmt::format(" (operation {})", number + 1);
}

}  // namespace

std::string describe_place(const ProgressRecord& record) {
  std::string text;
  const uint64_t count = record.operations.load();
  if (count > 0) {
    const auto& last = record.ring[(count - 1) % ProgressRecord::kOperations];
    text = (last.end.load() == 0 ? "in " : "after ") + describe(last, count - 1) + ", ";
  }
  return text + "at " + get(record.activity);
}

std::string describe_history(const ProgressRecord& record, int most) {
  const uint64_t count = record.operations.load();
  const uint64_t shown = std::min<uint64_t>({count, static_cast<uint64_t>(most), ProgressRecord::kOperations});
  const int64_t moment = now();
  std::string text;
  for (uint64_t number = count - shown; number < count; ++number) {
    const auto& operation = record.ring[number % ProgressRecord::kOperations];
    const int64_t begin = operation.begin.load(), end = operation.end.load();
    text +=
        fmt::format("    {}, {:.3f} s ago{}\n", describe(operation, number), static_cast<double>(moment - begin) * 1e-9,
                    end == 0 ? ", not ended" : fmt::format(", took {:.6f} s", static_cast<double>(end - begin) * 1e-9));
  }
  return text;
}

void set_patience(double seconds) { patience_seconds.store(seconds); }
double patience() { return patience_seconds.load(); }

}  // namespace carillon
