#include "nccl_segment.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace carillon_emulation {
namespace {

constexpr std::size_t kSlotsAt = 4096;

std::size_t channels_at(int ranks) { return kSlotsAt + (sizeof(RankSlot) * ranks + 4095) / 4096 * 4096; }

}  // namespace

Segment::Segment(const std::string& name, int ranks) : name_(name), ranks_(ranks) {
  bytes_ = channels_at(ranks) + sizeof(Channel) * ranks * ranks;
  int file = shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  const bool first = file >= 0;
  if (!first) file = shm_open(name.c_str(), O_RDWR, 0600);
  if (file < 0) return;
  if (first && ftruncate(file, static_cast<off_t>(bytes_)) != 0) return;
  struct stat status {};
  while (fstat(file, &status) == 0 && static_cast<std::size_t>(status.st_size) < bytes_) usleep(100);
  void* base = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  close(file);
  if (base == MAP_FAILED) return;
  base_ = base;
  if (first) {  // all other bytes are zero
    header().ranks = ranks;
    header().ready.store(1);
  }
  while (header().ready.load() == 0) usleep(100);
}

Segment::~Segment() {
  if (base_) munmap(base_, bytes_);
}

RankSlot& Segment::slot(int rank) const {
  return reinterpret_cast<RankSlot*>(static_cast<char*>(base_) + kSlotsAt)[rank];
}

Channel& Segment::channel(int from, int to) const {
  return reinterpret_cast<Channel*>(static_cast<char*>(base_) + channels_at(ranks_))[from * ranks_ + to];
}

void Segment::unlink() const { shm_unlink(name_.c_str()); }

bool Segment::lost(int rank) const {
  const RankSlot& its = slot(rank);
  const RankState state = its.state.load();
  if (state == RankState::kAbsent) return false;
  if (state != RankState::kPresent) return true;
  const int device = its.device_process.load();
  return !process_lives(its.host_process.load()) || (device != 0 && !process_lives(device));
}

bool process_lives(int process) {
  if (kill(process, 0) != 0 && errno == ESRCH) return false;
  char path[64], line[256] = {};
  std::snprintf(path, sizeof(path), "/proc/%d/stat", process);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  const ssize_t bytes = read(file, line, sizeof(line) - 1);
  close(file);
  if (bytes <= 0) return false;
  // "number (name) state …": the name may contain anything, so search for the last parenthesis.
  const char* end = line;
  for (const char* c = line; *c; ++c)
    if (*c == ')') end = c;
  return end[0] == ')' && end[2] != 'Z' && end[2] != 'X';
}

}  // namespace carillon_emulation
