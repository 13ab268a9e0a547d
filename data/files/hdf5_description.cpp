#include "data/files/hdf5_description.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "data/files/hdf5_child.h"
#include "data/files/packed_text.h"
#include "runtime/error.h"

namespace carillon {
namespace {

// A description consists of names, numbers and the texts of attributes, which are no longer than the file.
constexpr int64_t kLargestDescription = int64_t{1} << 30;
// Memory of the child beyond what it starts with: for HDF5's caches and chunks, and two copies of the texts.
constexpr int64_t kMemoryMib = 512;

struct Descriptor {
  int number = -1;
  ~Descriptor() { close(); }
  void close() {
    if (number >= 0) ::close(number);
    number = -1;
  }
};

// The environment of the child: where libraries are, and how sanitizers and coverage report. It contains nothing from a
// launcher, so that the child does not take itself for a rank, nothing for HDF5, and no preloaded libraries.
std::vector<std::string> child_environment() {
  std::vector<std::string> kept{"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "HDF5_USE_FILE_LOCKING=FALSE"};
  for (char** entry = environ; *entry != nullptr; ++entry)
    for (const char* name : {"LD_LIBRARY_PATH=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LLVM_PROFILE_FILE="})
      if (std::string_view(*entry).starts_with(name)) kept.emplace_back(*entry);
  return kept;
}

std::vector<char*> pointers_of(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

[[noreturn]] void no_process(int reason, const std::string& path) {
  fail(ExitCode::kInputOutput, "no process can be started to read it safely ({}), {}, free memory or raise the limits",
       std::strerror(reason), path);
}

// Starts the child with `file` and `output` as its descriptors 3 and 1.
pid_t start_child(std::vector<std::string> arguments, int file, int output, const std::string& path) {
  link_hdf5_child();
  arguments.insert(arguments.begin(), kHdf5ChildName);
  std::vector<std::string> environment = child_environment();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // First duplicate both to high numbers, in case one of them has the number that the other is to get.
  Descriptor file_copy{::fcntl(file, F_DUPFD_CLOEXEC, 10)}, output_copy{::fcntl(output, F_DUPFD_CLOEXEC, 10)};
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output_copy.number, 1);
  posix_spawn_file_actions_adddup2(&actions, file_copy.number, kHdf5ChildFile);
  // A new program starts with default signal handling, but ours may be blocked or ignored.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t child = -1;
  const int reason = posix_spawn(&child, "/proc/self/exe", &actions, &attributes, pointers_of(arguments).data(),
                                 pointers_of(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (reason != 0) no_process(reason, path);
  return child;
}

// Waits for the child and throws our error if it failed. `said` is its output.
void judge(pid_t child, const std::string& said, const std::string& path) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) no_process(errno, path);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  if (WIFEXITED(status) && WEXITSTATUS(status) == static_cast<int>(ExitCode::kInputOutput))
    fail(ExitCode::kInputOutput, "{}, {}, check the disk and try again", said.empty() ? "cannot be read" : said, path);
  if (WIFEXITED(status) && WEXITSTATUS(status) == static_cast<int>(ExitCode::kBadInput))
    fail(ExitCode::kBadInput, "{}, {}, restore it or create it again",
         said.empty() ? "reading it takes more memory than its size warrants" : said, path);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
    fail(ExitCode::kBadInput, "the HDF5 library does not finish reading it, {}, the file is damaged: restore it", path);
  if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGTERM && WTERMSIG(status) != SIGINT)
    fail(ExitCode::kBadInput, "the HDF5 library breaks on it ({}), {}, the file is damaged: restore it",
         strsignal(WTERMSIG(status)), path);
  fail(ExitCode::kInputOutput, "the process that reads it ended early ({}), {}, try again",
       WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : std::to_string(WEXITSTATUS(status)).c_str(), path);
}

std::string output_of_child(std::vector<std::string> arguments, int file, const std::string& path) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) no_process(errno, path);
  Descriptor read_end{ends[0]}, write_end{ends[1]};
  const pid_t child = start_child(std::move(arguments), file, write_end.number, path);
  write_end.close();
  std::string output;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t count = ::read(read_end.number, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    output.append(buffer, static_cast<size_t>(count));
    if (static_cast<int64_t>(output.size()) > kLargestDescription) break;
  }
  read_end.close();  // a child that is still writing ends by SIGPIPE
  judge(child, output, path);
  return output;
}

// Reads one entry and checks its numbers against the file's size; the child is not trusted.
bool take_entry(std::string_view& from, int64_t file_size, Hdf5Description& description) {
  std::string name;
  int64_t type = 0, dims = 0, size = 0;
  Hdf5Description::Entry entry;
  if (!take_text(from, name) || !take_number(from, type) || !take_number(from, dims) || dims < 0 || dims > 32)
    return false;
  for (int64_t i = 0; i < dims; ++i) {
    if (!take_number(from, size) || size < 0) return false;
    entry.dataset.shape.push_back(size);
  }
  if (!take_number(from, entry.place) || !take_text(from, entry.refused)) return false;
  entry.dataset.name = name;
  if (entry.refused.empty()) {
    if (type < 0 || type > static_cast<int64_t>(StoredType::kUInt8) || dims == 0) return false;
    entry.dataset.type = static_cast<StoredType>(type);
    int64_t bytes = size_of(entry.dataset.type);
    for (const int64_t extent : entry.dataset.shape)
      if (__builtin_mul_overflow(bytes, extent, &bytes)) return false;
    int64_t end = 0;
    if (entry.place >= 0 && (__builtin_add_overflow(entry.place, bytes, &end) || end > file_size))
      entry.refused = "is cut off";
  }
  return description.datasets.emplace(std::move(name), std::move(entry)).second;
}

}  // namespace

bool read_description(std::string_view from, int64_t file_size, Hdf5Description& description) {
  int64_t count = 0;
  if (!take_number(from, count)) return false;
  for (int64_t i = 0; i < count; ++i) {
    std::string name;
    Hdf5Description::Attribute attribute;
    if (!take_text(from, name) || !take_text(from, attribute.value) || !take_text(from, attribute.refused))
      return false;
    description.attributes[name] = std::move(attribute);
  }
  if (!take_number(from, count)) return false;
  for (int64_t i = 0; i < count; ++i)
    if (!take_entry(from, file_size, description)) return false;
  return from.empty();
}

Hdf5Description describe_hdf5(int descriptor, int64_t size, const std::string& path) {
  const std::string output = output_of_child({"describe", std::to_string(kMemoryMib)}, descriptor, path);
  Hdf5Description description;
  if (!read_description(output, size, description))
    fail(ExitCode::kBadInput, "its description makes no sense, {}, the file is damaged: restore it", path);
  return description;
}

void unpack_hdf5(int descriptor, int64_t size, const std::string& path, const Hdf5File::Dataset& dataset, int target) {
  // Room for a chunk, the library's copy of it, and the rows that are read at a time.
  int64_t row = size_of(dataset.type);
  for (size_t i = 1; i < dataset.shape.size(); ++i) row *= dataset.shape[i];
  const int64_t mib = kMemoryMib + 2 * (row >> 20) + (size >> 20);
  const std::string where = fmt::format("tensor {}, {}", dataset.name, path);
  judge(start_child({"unpack", std::to_string(mib), dataset.name}, descriptor, target, where), "", where);
  int64_t wanted = dataset.shape[0] * row;
  if (lseek(target, 0, SEEK_END) != wanted)
    fail(ExitCode::kBadInput, "tensor {} is not unpacked to its end, {}, restore the file", dataset.name, path);
}

}  // namespace carillon
