#include "parallel/watch/siblings.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

namespace carillon {
namespace {

std::string read_text(const std::string& path) {
  char text[512];
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return "";
  const ssize_t count = read(file, text, sizeof text);
  close(file);
  return count > 0 ? std::string(text, static_cast<size_t>(count)) : "";
}

template <class Visit>
void for_each_number(const std::string& folder, Visit visit) {
  DIR* entries = opendir(folder.c_str());
  if (entries == nullptr) return;
  while (const dirent* entry = readdir(entries))
    if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9') visit(std::atoi(entry->d_name));
  closedir(entries);
}

// Maps the record behind a descriptor of another process; nullptr if it is none of this job.
const ProgressRecord* map_record(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return nullptr;
  struct stat status {};
  void* memory = MAP_FAILED;
  if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) &&
      status.st_size == static_cast<off_t>(sizeof(ProgressRecord)))
    memory = mmap(nullptr, sizeof(ProgressRecord), PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return nullptr;
  const auto* record = static_cast<const ProgressRecord*>(memory);
  if (record->magic == ProgressRecord::kMagic && record->job == progress().job) return record;
  munmap(memory, sizeof(ProgressRecord));
  return nullptr;
}

const ProgressRecord* record_of(int pid) {
  const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
  const std::string wanted = "/memfd:" + std::string(kProgressName);
  const ProgressRecord* record = nullptr;
  for_each_number(folder, [&](int number) {
    if (record != nullptr) return;
    const std::string path = folder + "/" + std::to_string(number);
    char target[128];
    const ssize_t length = readlink(path.c_str(), target, sizeof target);
    if (length > 0 && std::string_view(target, static_cast<size_t>(length)).starts_with(wanted))
      record = map_record(path);
  });
  return record;
}

const char* first_of(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const char* value = std::getenv(name)) return value;
  return nullptr;
}

}  // namespace

Siblings::~Siblings() {
  for (const Sibling& sibling : all_) forget(sibling);
}

void Siblings::forget(const Sibling& sibling) {
  munmap(const_cast<void*>(static_cast<const void*>(sibling.record)), sizeof(ProgressRecord));
}

void Siblings::add(int pid) {
  if (pid == getpid()) return;
  if (std::any_of(all_.begin(), all_.end(), [&](const Sibling& known) { return known.pid == pid; })) return;
  const ProgressRecord* record = record_of(pid);
  if (record == nullptr) return;
  const Sibling found{pid, record->rank, record};
  // A child process started by a rank (data/files/sealed_process.h) has its parent's record.
  const bool known = found.rank == progress().rank || std::any_of(all_.begin(), all_.end(), [&](const Sibling& other) {
                       return other.rank == found.rank;
                     });
  if (known)
    forget(found);
  else
    all_.push_back(found);
}

void Siblings::look() {
  const std::string own_name = read_text("/proc/self/comm");
  for_each_number("/proc", [&](int pid) {
    if (read_text("/proc/" + std::to_string(pid) + "/comm") == own_name) add(pid);
  });
}

void Siblings::look_at(const std::vector<int>& pids) {
  std::erase_if(all_, [&](const Sibling& sibling) {
    if (std::find(pids.begin(), pids.end(), sibling.pid) != pids.end()) return false;
    forget(sibling);
    return true;
  });
  for (const int pid : pids) add(pid);
}

char state_of_process(int pid) {
  const std::string text = read_text("/proc/" + std::to_string(pid) + "/stat");
  const size_t end = text.rfind(')');  // the name before it may contain anything
  return end == std::string::npos || end + 2 >= text.size() ? '\0' : text[end + 2];
}

Launched launched_as() {
  Launched launched;
  if (const char* rank = first_of({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}))
    launched.rank = std::atoi(rank);
  if (const char* ranks = first_of({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}))
    launched.ranks = std::max(1, std::atoi(ranks));
  std::string start;
  for (const char* name : {"PMIX_NAMESPACE", "PMI_JOBID", "SLURM_JOB_ID", "SLURM_STEP_ID"})
    if (const char* value = std::getenv(name)) start += std::string(value) + "/";
  launched.job = 0xcbf29ce484222325;  // FNV-1a
  for (const char letter : start) launched.job = (launched.job ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
  return launched;
}

}  // namespace carillon
