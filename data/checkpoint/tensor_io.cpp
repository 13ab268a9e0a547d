#include "data/checkpoint/tensor_io.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "data/checkpoint/stored_values.h"
#include "data/checkpoint/tensor_hash.h"
#include "data/files/posix_file.h"
#include "runtime/backend.h"
#include "runtime/check.h"

namespace carillon {
namespace {

// A block is hashed, converted and handed to the kernel while it lies in the second-level cache.
constexpr int64_t kBlockBytes = int64_t{1} << 20;
// What a thread takes at a time. For reading this is long and goes through one descriptor, because otherwise the kernel
// takes the interleaved positions of the threads for random access and does not read ahead. Two threads reading from a
// cold cache: alternating every 4 MiB 1.9 to 2.8 GB/s, every 32 MiB 2.4 to 3.0, every 128 MiB with the advice
// "sequential" 3.0 to 3.4.
constexpr int64_t kBytesToWrite = int64_t{32} << 20, kBytesToRead = int64_t{128} << 20;

// Rows of a part.
struct Run {
  TensorPart* part;
  int64_t begin, end;
};
using Runs = std::vector<Run>;

int64_t row_bytes(const TensorPart& part) {
  return part.rectangle.count() / part.rectangle.extent[0] * size_of(part.type);
}

// All rows of all parts in the order of the file, in lists of about `bytes` each. A thread takes one list at a time.
std::vector<Runs> lists_of(std::vector<TensorPart>& parts, int64_t bytes) {
  std::vector<TensorPart*> sorted;
  for (TensorPart& part : parts) {
    part.hash = 0;
    if (!part.rectangle.empty()) sorted.push_back(&part);
  }
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->place < b->place; });
  std::vector<Runs> lists;
  int64_t room = 0;
  for (TensorPart* part : sorted) {
    const int64_t rows = part->rectangle.extent[0], row = row_bytes(*part);
    for (int64_t begin = 0, end = 0; begin < rows; begin = end) {
      if (room <= 0) {
        lists.emplace_back();
        room = bytes;
      }
      end = std::min(rows, begin + std::max<int64_t>(1, room / row));
      lists.back().push_back({part, begin, end});
      room -= (end - begin) * row;
      if (room < row) room = 0;
    }
  }
  return lists;
}

// At least two, so that one can hash while another waits for the disk. Four are enough for every disk we have seen.
size_t thread_count() {
  cpu_set_t allowed;
  const int cpus = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
  return static_cast<size_t>(std::clamp(cpus, 2, 4));
}

// Calls work(list) for all lists, started in order, on several threads. Throws the first error once all threads have
// stopped.
void for_each_list(const std::vector<Runs>& lists, const std::function<void(const Runs&)>& work) {
  std::atomic<size_t> next = 0;
  std::atomic<bool> failed = false;
  std::exception_ptr error;
  std::mutex mutex;
  const auto go = [&] {
    try {
      for (size_t i; !failed && (i = next.fetch_add(1)) < lists.size();) work(lists[i]);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failed.exchange(true)) error = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(thread_count(), lists.size()); ++i) threads.emplace_back(go);
  go();
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
}

Rectangle rows_of(Rectangle rectangle, int64_t begin, int64_t end) {
  rectangle.offset[0] += begin;
  rectangle.extent[0] = end - begin;
  return rectangle;
}

// Calls move(place in the file, offset in the block, bytes) for each contiguous piece of a block: once if the rectangle
// has all columns, otherwise once per row.
template <class Move>
void for_each_piece(const TensorPart& part, const Rectangle& block, Move move) {
  const int64_t width = size_of(part.type);
  int64_t file_row = width;
  bool whole_rows = true;
  for (size_t dim = 1; dim < block.extent.size(); ++dim) {
    file_row *= block.global_shape[dim];
    whole_rows = whole_rows && block.extent[dim] == block.global_shape[dim];
  }
  const int64_t place = part.place + block.offset[0] * file_row;
  if (whole_rows) return move(place, 0, block.extent[0] * file_row);
  CHECK(block.extent.size() == 2, "columns are of matrices", part.name);
  const int64_t bytes = block.extent[1] * width;
  for (int64_t row = 0; row < block.extent[0]; ++row)
    move(place + row * file_row + block.offset[1] * width, row * bytes, bytes);
}

// Calls visit(rectangle, offset in the part in bytes) for the blocks of a run.
template <class Visit>
void for_each_block(const Run& run, Visit visit) {
  const int64_t bytes = row_bytes(*run.part), at_once = std::max<int64_t>(1, kBlockBytes / bytes);
  for (int64_t begin = run.begin; begin < run.end; begin += at_once)
    visit(rows_of(run.part->rectangle, begin, std::min(run.end, begin + at_once)), begin * bytes);
}

void add_hash(TensorPart& part, const Rectangle& block, const void* data) {
  if (part.hashed)
    std::atomic_ref(part.hash).fetch_add(hash_rectangle(part.name, block, data, size_of(part.type)),
                                         std::memory_order_relaxed);
}

void put(int descriptor, const TensorPart& part, const std::string& path, int64_t place, const char* data,
         int64_t bytes) {
  if (const int reason = write_all(descriptor, place, data, bytes))
    fail_to_write("tensor " + part.name + " cannot be written", reason, path);
}

// Opened anew for every list, because the kernel's read-ahead state belongs to the descriptor.
struct OpenToRead {
  InputFile file;
  explicit OpenToRead(const std::string& path) : file(path, Links::kRefuse) {
    (void)posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_SEQUENTIAL);
  }
};

void read_run(const OpenToRead& source, const Run& run, std::vector<char>& buffer) {
  TensorPart& part = *run.part;
  const bool in_place = part.to && stored_type(part.to.dtype()) == part.type;
  for_each_block(run, [&](const Rectangle& block, int64_t before) {
    const int64_t width = size_of(part.type), first = before / width, count = block.count();
    char* target =
        part.to ? static_cast<char*>(part.to.raw()) + first * size_of(stored_type(part.to.dtype())) : nullptr;
    char* bytes = target;
    if (!in_place) {
      buffer.resize(static_cast<size_t>(count * width));
      bytes = buffer.data();
    }
    for_each_piece(part, block, [&](int64_t place, int64_t at, int64_t length) {
      source.file.read(place, bytes + at, length, "tensor " + part.name);
    });
    add_hash(part, block, bytes);
    if (part.to && !in_place) convert_stored(Tensor(target, part.to.dtype(), {count}), bytes, part.type);
  });
}

// ---- parts in device memory: only this thread uses the device; the disk has its own threads

// Rows of a part in device memory, with their place in host memory.
struct Staged {
  TensorPart* whole;
  TensorPart rows;
  int64_t bytes;  // of host memory
  Tensor device;  // the same rows in device memory
};
using StagedGroup = std::vector<Staged>;

DType dtype_of(StoredType type) {
  for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16, DType::kInt64, DType::kUInt8})
    if (stored_type(dtype) == type) return dtype;
  throw InternalError("no tensor has elements of type " + name_of(type));
}

// All rows of the parts in device memory, in groups that fit into one buffer.
std::vector<StagedGroup> groups_of(const std::vector<TensorPart*>& parts) {
  std::vector<StagedGroup> groups;
  int64_t room = 0;
  for (TensorPart* part : parts) {
    part->hash = 0;
    if (part->rectangle.empty()) continue;
    const Tensor device =
        part->to ? part->to : Tensor(const_cast<void*>(part->from), dtype_of(part->type), {part->rectangle.count()});
    const int64_t rows = part->rectangle.extent[0], elements = part->rectangle.count() / rows;
    const int64_t row = elements * static_cast<int64_t>(size_of(device.dtype()));
    const Tensor flat = device.reshape({rows, elements});
    for (int64_t begin = 0, end = 0; begin < rows; begin = end) {
      if (room < row) {
        groups.emplace_back();
        room = std::max(kStagedBytes, row);
      }
      end = std::min(rows, begin + room / row);
      Staged staged{part, *part, (end - begin) * row, flat.rows(begin, end)};
      staged.rows.device = nullptr;
      staged.rows.rectangle = rows_of(part->rectangle, begin, end);
      room -= staged.bytes;
      groups.back().push_back(std::move(staged));
    }
  }
  return groups;
}

// Calls at_device(staged, host tensor) for every member of a group, and at_disk(parts) for all of them at once; the
// device comes first for writing, the disk for reading. While the disk works on a group, the device works on the next
// or the previous one.
template <class AtDevice, class AtDisk>
void pass_through_host(std::vector<StagedGroup>& groups, bool device_first, AtDevice at_device, AtDisk at_disk) {
  std::vector<char> buffers[2];
  std::future<void> disk;
  const auto place = [&](size_t i) {
    std::vector<char>& buffer = buffers[i % 2];
    const auto rounded = [](int64_t size) { return (static_cast<size_t>(size) + 63) / 64 * 64; };
    size_t bytes = 0;
    for (const Staged& staged : groups[i]) bytes += rounded(staged.bytes);
    buffer.resize(bytes);
    std::vector<Tensor> hosts;
    size_t at = 0;
    for (Staged& staged : groups[i]) {
      hosts.emplace_back(buffer.data() + at, staged.device.dtype(), staged.device.shape());
      at += rounded(staged.bytes);
      staged.rows.from = hosts.back().raw();
      if (staged.rows.to) staged.rows.to = hosts.back().reshape({hosts.back().count()});
    }
    return hosts;
  };
  const auto start = [&](size_t i) {
    disk = std::async(std::launch::async, [&at_disk, &group = groups[i]] {
      std::vector<TensorPart> parts;
      for (const Staged& staged : group) parts.push_back(staged.rows);
      at_disk(parts);
      for (size_t k = 0; k < parts.size(); ++k) group[k].whole->hash += parts[k].hash;
    });
  };
  std::vector<Tensor> before;
  for (size_t i = 0; i <= groups.size(); ++i) {
    const bool more = i < groups.size();
    std::vector<Tensor> hosts = more ? place(i) : std::vector<Tensor>();
    if (device_first && more)
      for (size_t k = 0; k < hosts.size(); ++k) at_device(groups[i][k], hosts[k]);
    if (disk.valid()) disk.get();
    if (more) start(i);
    if (!device_first && i > 0)
      for (size_t k = 0; k < before.size(); ++k) at_device(groups[i - 1][k], before[k]);
    before = std::move(hosts);
  }
}

// Divides parts into those in host memory and those in device memory; `all` must outlive it.
struct Sorted {
  std::vector<TensorPart> host;
  std::vector<size_t> host_numbers;
  std::vector<TensorPart*> device;
  explicit Sorted(std::vector<TensorPart>& all) {
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i].device != nullptr) {
        device.push_back(&all[i]);
      } else {
        host.push_back(all[i]);
        host_numbers.push_back(i);
      }
    }
  }
  void copy_hashes_back(std::vector<TensorPart>& all) const {
    for (size_t i = 0; i < host.size(); ++i) all[host_numbers[i]].hash = host[i].hash;
  }
};

void write_host_parts(int descriptor, const std::string& path, std::vector<TensorPart>& parts) {
  const auto write_run = [&](const Run& run) {
    for_each_block(run, [&](const Rectangle& block, int64_t before) {
      const char* data = static_cast<const char*>(run.part->from) + before;
      add_hash(*run.part, block, data);
      int64_t from = 0, to = 0;
      for_each_piece(*run.part, block, [&](int64_t place, int64_t at, int64_t bytes) {
        put(descriptor, *run.part, path, place, data + at, bytes);
        if (at == 0) from = place;
        to = place + bytes;
      });
      // A hint to start writing now, in parallel with the copying. Only fsync makes the data durable; it also reports
      // errors of this writing, since it uses the same descriptor.
      (void)sync_file_range(descriptor, from, to - from, SYNC_FILE_RANGE_WRITE);
    });
  };
  for_each_list(lists_of(parts, kBytesToWrite),
                [&](const Runs& runs) { std::for_each(runs.begin(), runs.end(), write_run); });
}

void read_host_parts(const std::string& path, std::vector<TensorPart>& parts) {
  for_each_list(lists_of(parts, kBytesToRead), [&](const Runs& runs) {
    const OpenToRead source(path);
    std::vector<char> buffer;
    for (const Run& run : runs) read_run(source, run, buffer);
  });
}

}  // namespace

TensorWriter::TensorWriter(std::string path)
    : path_(std::move(path)), descriptor_(open_to_write(path_, /*create=*/false)) {}

TensorWriter::~TensorWriter() { close(descriptor_); }

void TensorWriter::write(std::vector<TensorPart>& parts) {
  Sorted sorted(parts);
  write_host_parts(descriptor_, path_, sorted.host);
  sorted.copy_hashes_back(parts);
  std::vector<StagedGroup> groups = groups_of(sorted.device);
  pass_through_host(
      groups, /*device_first=*/true,
      [](const Staged& staged, Tensor host) { staged.whole->device->download(host, staged.device); },
      [&](std::vector<TensorPart>& rows) { write_host_parts(descriptor_, path_, rows); });
}

void TensorWriter::write_bytes(const TensorPart& part, int64_t place, const char* data, int64_t bytes) {
  put(descriptor_, part, path_, place, data, bytes);
}

void TensorWriter::sync() {
  int result = 0;
  do result = fsync(descriptor_);
  while (result != 0 && errno == EINTR);
  if (result != 0) fail_to_write("cannot be synced", errno, path_);
}

void read_parts(const std::string& path, std::vector<TensorPart>& parts) {
  Sorted sorted(parts);
  read_host_parts(path, sorted.host);
  sorted.copy_hashes_back(parts);
  std::vector<StagedGroup> groups = groups_of(sorted.device);
  pass_through_host(
      groups, /*device_first=*/false,
      [](const Staged& staged, Tensor host) { staged.whole->device->upload(staged.device, host); },
      [&](std::vector<TensorPart>& rows) { read_host_parts(path, rows); });
}

}  // namespace carillon
