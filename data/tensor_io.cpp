#include "data/tensor_io.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "data/stored_values.h"
#include "data/tensor_hash.h"
#include "runtime/check.h"

namespace carillon {
namespace {

// A block is hashed, converted and handed to the kernel while it lies in the second-level cache.
constexpr int64_t kBlockBytes = int64_t{1} << 20;
// A thread reads this much behind one another, or the kernel takes the threads' places for random access and does not
// read ahead: 3.4 GB/s from one thread, 2 to 2.8 GB/s from two that took turns at 4 MiB.
constexpr int64_t kRunBytes = int64_t{32} << 20;

// Rows of a part: what a thread takes at a time.
struct Run {
  TensorPart* part;
  int64_t begin, end;
};

int64_t row_bytes(const TensorPart& part) {
  return part.rectangle.count() / part.rectangle.extent[0] * size_of(part.type);
}

std::vector<Run> runs_of(std::vector<TensorPart>& parts) {
  std::vector<Run> runs;
  for (TensorPart& part : parts) {
    part.hash = 0;
    if (part.rectangle.empty()) continue;
    const int64_t rows = part.rectangle.extent[0], at_once = std::max<int64_t>(1, kRunBytes / row_bytes(part));
    for (int64_t begin = 0; begin < rows; begin += at_once)
      runs.push_back({&part, begin, std::min(rows, begin + at_once)});
  }
  std::stable_sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.part->place < b.part->place; });
  return runs;
}

// Two at least: one waits for the disk while the other hashes. Four fill any disk we have seen.
int thread_count(size_t runs) {
  cpu_set_t allowed;
  const int cpus = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
  return static_cast<int>(std::min<size_t>(static_cast<size_t>(std::clamp(cpus, 2, 4)), std::max<size_t>(runs, 1)));
}

// work(run) for all runs, in their order, on several threads; the first error is thrown when all have stopped.
void for_each_run(const std::vector<Run>& runs, const std::function<void(const Run&)>& work) {
  std::atomic<size_t> next = 0;
  std::atomic<bool> failed = false;
  std::exception_ptr error;
  std::mutex mutex;
  const auto go = [&] {
    try {
      for (size_t i; !failed && (i = next.fetch_add(1)) < runs.size();) work(runs[i]);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failed.exchange(true)) error = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < thread_count(runs.size()); ++i) threads.emplace_back(go);
  go();
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
}

Rectangle rows_of(Rectangle rectangle, int64_t begin, int64_t end) {
  rectangle.offset[0] += begin;
  rectangle.extent[0] = end - begin;
  return rectangle;
}

// move(place in the file, bytes from the start of the block, count) for the pieces of a block that lie together: one
// piece, or one a row where the rectangle has not all columns.
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

// visit(rectangle, bytes of the part before it) for the blocks of a run.
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

void write_all(int descriptor, const TensorPart& part, const std::string& path, int64_t place, const char* data,
               int64_t bytes) {
  while (bytes > 0) {
    const ssize_t written = pwrite(descriptor, data, static_cast<size_t>(bytes), place);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0)
      fail(ExitCode::kInputOutput, "tensor {} cannot be written ({}), {}, check space and disk and start again",
           part.name, std::strerror(errno), path);
    place += written, data += written, bytes -= written;
  }
}

void read_all(int descriptor, const TensorPart& part, const std::string& path, int64_t place, char* data,
              int64_t bytes) {
  while (bytes > 0) {
    const ssize_t count = pread(descriptor, data, static_cast<size_t>(bytes), place);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      fail(ExitCode::kInputOutput, "tensor {} cannot be read ({}), {}, check the disk", part.name, std::strerror(errno),
           path);
    if (count == 0) fail(ExitCode::kBadInput, "tensor {} is cut off, {}, restore the file", part.name, path);
    place += count, data += count, bytes -= count;
  }
}

// A descriptor of its own for every run: the kernel reads ahead by descriptor.
struct OpenToRead {
  int descriptor;
  explicit OpenToRead(const std::string& path) : descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (descriptor < 0)
      fail(ExitCode::kInputOutput, "cannot be opened ({}), {}, check the disk", std::strerror(errno), path);
  }
  OpenToRead(const OpenToRead&) = delete;
  ~OpenToRead() { close(descriptor); }
};

void read_run(const std::string& path, const Run& run) {
  TensorPart& part = *run.part;
  const OpenToRead file(path);
  const bool in_place = part.to && stored_type(part.to.dtype()) == part.type;
  std::vector<char> buffer;
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
      read_all(file.descriptor, part, path, place, bytes + at, length);
    });
    add_hash(part, block, bytes);
    if (part.to && !in_place) convert_stored(Tensor(target, part.to.dtype(), {count}), bytes, part.type);
  });
}

}  // namespace

TensorWriter::TensorWriter(std::string path)
    : path_(std::move(path)), descriptor_(open(path_.c_str(), O_WRONLY | O_CLOEXEC)) {
  if (descriptor_ < 0)
    fail(ExitCode::kInputOutput, "cannot be opened to write ({}), {}, check the disk", std::strerror(errno), path_);
}

TensorWriter::~TensorWriter() { close(descriptor_); }

void TensorWriter::write(std::vector<TensorPart>& parts) {
  for_each_run(runs_of(parts), [&](const Run& run) {
    for_each_block(run, [&](const Rectangle& block, int64_t before) {
      const char* data = static_cast<const char*>(run.part->from) + before;
      add_hash(*run.part, block, data);
      int64_t from = 0, to = 0;
      for_each_piece(*run.part, block, [&](int64_t place, int64_t at, int64_t bytes) {
        write_all(descriptor_, *run.part, path_, place, data + at, bytes);
        if (at == 0) from = place;
        to = place + bytes;
      });
      // A hint: the disk begins now, beside the copying. Durable is only what fsync has seen, which also reports any
      // error of this writing, since it is the same descriptor.
      (void)sync_file_range(descriptor_, from, to - from, SYNC_FILE_RANGE_WRITE);
    });
  });
}

void TensorWriter::sync() {
  if (fsync(descriptor_) != 0)
    fail(ExitCode::kInputOutput, "cannot be synced ({}), {}, check space and disk", std::strerror(errno), path_);
}

void read_parts(const std::string& path, std::vector<TensorPart>& parts) {
  for_each_run(runs_of(parts), [&](const Run& run) { read_run(path, run); });
}

}  // namespace carillon
