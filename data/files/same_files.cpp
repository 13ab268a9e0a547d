#include "data/files/same_files.h"

#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "data/files/posix_file.h"
#include "runtime/error.h"

namespace carillon {
namespace {

constexpr int64_t kChunk = int64_t{4} << 20;

std::string host_name() {
  char name[256] = "?";
  gethostname(name, sizeof name - 1);
  return name;
}

// One value per running kernel; a rank that cannot read it counts as a separate machine.
std::string machine_id(int rank) {
  try {
    const int64_t limit = 4096;  // files in /proc report size 0
    std::string text(static_cast<size_t>(limit), '\0');
    const InputFile file("/proc/sys/kernel/random/boot_id", Links::kFollow);
    text.resize(static_cast<size_t>(std::max<int64_t>(0, read_up_to(file.descriptor(), 0, text.data(), limit))));
    if (!text.empty()) return text;
  } catch (const Error&) {
  }
  return std::to_string(rank);
}

// Device, inode, size and times: they differ for another file and for one that was written to.
std::string identity_of(const InputFile& file) {
  struct stat status {};
  if (fstat(file.descriptor(), &status) != 0)
    fail(ExitCode::kInputOutput, "cannot be looked at, {}, check the disk and start again", file.path());
  return fmt::format("{} {} {} {}.{} {}.{}", status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec,
                     status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec);
}

[[noreturn]] void fail_changed(const std::string& path) {
  fail(ExitCode::kBadInput, "was written to while it was read, {}, start again when it is whole", path);
}

std::string name_of_rank(const std::vector<std::string>& hosts, size_t rank) {
  return fmt::format("rank {} ({})", rank, hosts[rank]);
}

struct Sum {
  uint64_t low = 0, high = 0;
};

// The sum of hashes over this rank's share of the chunks, each seeded with its number; ranks add up their sums.
Sum hash_share(const InputFile& file, int64_t index, int64_t shares) {
  Sum sum;
  std::vector<char> bytes(static_cast<size_t>(std::min(file.size(), kChunk)));
  const int64_t chunks = (file.size() + kChunk - 1) / kChunk;
  for (int64_t chunk = index; chunk < chunks; chunk += shares) {
    const int64_t size = std::min(kChunk, file.size() - chunk * kChunk);
    file.read(chunk * kChunk, bytes.data(), size);
    const XXH128_hash_t hash =
        XXH3_128bits_withSeed(bytes.data(), static_cast<size_t>(size), static_cast<uint64_t>(chunk));
    sum.low += hash.low64;
    sum.high += hash.high64;
  }
  return sum;
}

std::vector<FileContent> compare(Communicator& world, const std::vector<std::string>& paths, bool always_hash) {
  if (paths.empty()) return {};
  const std::vector<std::string> hosts = gather_texts(world, host_name());
  const std::string machine = machine_id(world.rank());
  // Files are opened one at a time: there may be more of them than a process may have open.
  std::vector<int64_t> sizes;
  std::vector<std::string> own;
  std::string mine;
  agree(world, [&] {
    for (const std::string& path : paths) {
      try {
        const InputFile file(path, Links::kFollow);
        sizes.push_back(file.size());
        own.push_back(identity_of(file));
      } catch (const Error& error) {
        if (world.size() == 1) throw;
        throw Error(error.code(), fmt::format("{} [on {}]", error.what(), name_of_rank(hosts, world.rank())));
      }
      const std::string identity = machine + " " + own.back();
      mine += fmt::format("{:016x}\n", XXH3_64bits(identity.data(), identity.size()));
    }
  });
  // Ranks with the same identity of a path have opened the same file and share the work of reading it.
  const std::vector<std::string> identities = gather_texts(world, mine);
  const size_t me = static_cast<size_t>(world.rank()), ranks = identities.size();
  const auto identity = [&](size_t rank, size_t file) {
    return std::string_view(identities[rank]).substr(17 * file, 17);
  };
  const auto one_file = [&](size_t file) {
    for (size_t rank = 1; rank < ranks; ++rank)
      if (identity(rank, file) != identity(0, file)) return false;
    return true;
  };
  std::vector<Sum> shares(paths.size()), all(paths.size() * ranks);
  agree(world, [&] {
    for (size_t file = 0; file < paths.size(); ++file) {
      if (!always_hash && one_file(file)) continue;
      int64_t index = 0, members = 0;
      for (size_t rank = 0; rank < ranks; ++rank) {
        if (identity(rank, file) != identity(me, file)) continue;
        if (rank < me) ++index;
        ++members;
      }
      const InputFile opened(paths[file], Links::kFollow);
      if (identity_of(opened) != own[file]) fail_changed(paths[file]);
      shares[file] = hash_share(opened, index, members);
    }
  });
  world.all_gather(Tensor(all.data(), DType::kInt64, {2 * static_cast<int64_t>(all.size())}),
                   Tensor(shares.data(), DType::kInt64, {2 * static_cast<int64_t>(shares.size())}));
  std::vector<int64_t> all_sizes(all.size());
  world.all_gather(Tensor::of(all_sizes, {static_cast<int64_t>(all_sizes.size())}),
                   Tensor::of(sizes, {static_cast<int64_t>(sizes.size())}));

  std::vector<FileContent> contents;
  for (size_t file = 0; file < paths.size(); ++file) {
    const auto content_of = [&](size_t rank) {
      Sum sum;
      for (size_t other = 0; other < ranks; ++other)
        if (identity(other, file) == identity(rank, file)) {
          sum.low += all[other * paths.size() + file].low;
          sum.high += all[other * paths.size() + file].high;
        }
      return FileContent{paths[file], all_sizes[rank * paths.size() + file],
                         fmt::format("{:016x}{:016x}", sum.high, sum.low), own[file]};
    };
    contents.push_back(content_of(0));
    for (size_t rank = 1; rank < ranks; ++rank) {
      const FileContent there = content_of(rank);
      if (there.size == contents.back().size && there.hash == contents.back().hash) continue;
      fail(ExitCode::kBadInput,
           "ranks read different files under one path: {} bytes with hash {} on {}, {} bytes with hash {} on {}, {}, "
           "give every node the same file",
           contents.back().size, contents.back().hash, name_of_rank(hosts, 0), there.size, there.hash,
           name_of_rank(hosts, rank), paths[file]);
    }
  }
  return contents;
}

}  // namespace

std::vector<std::string> gather_texts(Communicator& world, const std::string& mine) {
  std::vector<int64_t> length{static_cast<int64_t>(mine.size())}, lengths(static_cast<size_t>(world.size()));
  world.all_gather(Tensor::of(lengths, {world.size()}), Tensor::of(length, {1}));
  const int64_t total = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  std::vector<std::string> texts;
  std::string all(static_cast<size_t>(total), '\0'), own = mine;
  world.all_gather(Tensor(all.data(), DType::kUInt8, {total}), Tensor(own.data(), DType::kUInt8, {length[0]}), lengths);
  for (size_t at = 0; const int64_t size : lengths) {
    texts.push_back(all.substr(at, static_cast<size_t>(size)));
    at += static_cast<size_t>(size);
  }
  return texts;
}

std::vector<int> machines_of_ranks(Communicator& world) {
  std::map<std::string, int> numbers;
  std::vector<int> machines;
  for (const std::string& id : gather_texts(world, machine_id(world.rank())))
    machines.push_back(numbers.emplace(id, static_cast<int>(numbers.size())).first->second);
  return machines;
}

void require_same_text(Communicator& world, const std::string& what, const std::string& text,
                       const std::string& detail) {
  if (world.size() == 1) return;
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  const std::vector<std::string> hashes = gather_texts(world, fmt::format("{:016x}{:016x}", hash.high64, hash.low64));
  const auto other = std::find_if(hashes.begin(), hashes.end(), [&](const auto& each) { return each != hashes[0]; });
  if (other == hashes.end()) return;
  const std::vector<std::string> hosts = gather_texts(world, host_name()), details = gather_texts(world, detail);
  const auto rank = static_cast<size_t>(other - hashes.begin());
  const auto told = [&](size_t r) { return name_of_rank(hosts, r) + (details[r].empty() ? "" : ": " + details[r]); };
  fail(ExitCode::kBadInput, "differs between {} and {}, {}, give every rank the same", told(0), told(rank), what);
}

void require_unchanged(const FileContent& file) {
  if (identity_of(InputFile(file.path)) != file.identity) fail_changed(file.path);
}

std::vector<FileContent> agree_on_content(Communicator& world, const std::vector<std::string>& paths) {
  return compare(world, paths, /*always_hash=*/true);
}

void require_same_files(Communicator& world, const std::vector<std::string>& paths) {
  if (world.size() > 1) (void)compare(world, paths, /*always_hash=*/false);
}

}  // namespace carillon
