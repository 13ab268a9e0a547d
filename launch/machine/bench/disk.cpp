// The disk of a folder: all ranks of a node write at once, synchronise, and read back.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "launch/machine/bench/bench.h"
#include "runtime/error.h"
#include "runtime/text.h"

namespace carillon {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
constexpr int64_t kLeast = 4, kMost = 512;  // MiB per rank

// A file that is unlinked as soon as it is created: nothing remains, however the program ends.
class UnnamedFile {
 public:
  explicit UnnamedFile(const std::string& folder) : path_(folder + "/.carillon-bench-XXXXXX") {
    descriptor_ = ::mkostemp(path_.data(), O_CLOEXEC);
    if (descriptor_ < 0)
      fail(ExitCode::kCannotCreate, "no file can be created to measure the disk ({}), {}, name another bench.folder",
           std::strerror(errno), printable(folder));
    ::unlink(path_.c_str());
  }
  ~UnnamedFile() { ::close(descriptor_); }
  UnnamedFile(const UnnamedFile&) = delete;

  // Both transfer `mebibytes` from the beginning of the file.
  void write(int64_t mebibytes, const std::vector<char>& piece) {
    for (int64_t i = 0; i < mebibytes; ++i)
      if (::pwrite(descriptor_, piece.data(), kPiece, i * static_cast<int64_t>(kPiece)) != static_cast<ssize_t>(kPiece))
        fail_with("writing");
    if (::fsync(descriptor_) != 0) fail_with("syncing");
  }
  void read(int64_t mebibytes, std::vector<char>& piece) {
    for (int64_t i = 0; i < mebibytes; ++i)
      if (::pread(descriptor_, piece.data(), kPiece, i * static_cast<int64_t>(kPiece)) != static_cast<ssize_t>(kPiece))
        fail_with("reading");
  }
  // Makes the next read come from the disk, if the system follows the advice.
  void forget() { (void)::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED); }

 private:
  [[noreturn]] void fail_with(const char* what) const {
    fail(ExitCode::kInputOutput, "{} failed ({}), {}, free space or name another bench.folder", what,
         std::strerror(errno), printable(path_));
  }

  std::string path_;
  int descriptor_ = -1;
};

}  // namespace

void bench_disk(Communicator& world, const NodeMap& nodes, const std::string& folder, double seconds,
                BenchResult& result) {
  std::unique_ptr<UnnamedFile> file;
  // Bytes that no file system can compress or deduplicate.
  std::vector<char> piece(kPiece);
  uint64_t state = 0x9e3779b97f4a7c15u + static_cast<uint64_t>(world.rank());
  for (size_t i = 0; i < kPiece; i += 8) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const uint64_t mixed = state ^ (state >> 29);
    std::memcpy(&piece[i], &mixed, 8);
  }
  const auto timed = [&](const std::function<void()>& body) {
    double took = 0;
    world.barrier();
    agree(world, [&] {
      const double begin = now_seconds();
      body();
      took = now_seconds() - begin;
    });
    return took;
  };
  agree(world, [&] { file = std::make_unique<UnnamedFile>(folder); });
  // A small write first, to see how much fits into three quarters of the time: three rounds of writing.
  const double first = largest(world, timed([&] { file->write(kLeast, piece); }));
  const auto mebibytes = std::clamp(static_cast<int64_t>(seconds / 4 / first * kLeast), kLeast, kMost);
  std::vector<double> writing, reading;
  for (int round = 0; round < 3; ++round) {
    writing.push_back(timed([&] { file->write(mebibytes, piece); }));
    agree(world, [&] { file->forget(); });
    reading.push_back(timed([&] { file->read(mebibytes, piece); }));
  }
  const double bytes = static_cast<double>(mebibytes) * static_cast<double>(kPiece) * nodes.local_ranks();
  const Timing write = summarise(world, writing), read = summarise(world, reading);
  // The bytes of the busiest node over the slowest rank's time.
  result.profile.disk_write_bytes_per_second = largest(world, bytes) / write.seconds;
  result.profile.disk_read_bytes_per_second = largest(world, bytes) / read.seconds;
  const auto row = [&](const char* what, double rate, const Timing& timing) {
    result.rows.push_back({what, fmt::format("{} MiB per rank", mebibytes), fmt::format("{:.2f} GB/s", rate * 1e-9),
                           timing, std::nullopt});
  };
  row("disk, write and sync", result.profile.disk_write_bytes_per_second, write);
  row("disk, read", result.profile.disk_read_bytes_per_second, read);
}

}  // namespace carillon
