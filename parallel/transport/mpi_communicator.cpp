#include "parallel/transport/mpi_communicator.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "parallel/shard.h"
#include "parallel/transport/mpi_environment.h"
#include "parallel/transport/mpi_native.h"
#include "parallel/transport/rank_order.h"
#include "parallel/transport/wait_time.h"
#include "parallel/watch/rank_watch.h"
#include "runtime/progress.h"
#include "runtime/trace.h"

namespace carillon {
namespace {

constexpr size_t kMessageLimit = size_t{1} << 30;
// Reductions process a tensor in blocks of this many elements per rank, so that scratch stays small.
constexpr int64_t kReductionBlock = int64_t{4} << 20;
std::atomic<size_t> message_limit{kMessageLimit};
// Collectives up to this size carry a stamp of everything the group has called before, and compare it (see Stamp).
constexpr size_t kSmall = 4096;
using Stamp = uint64_t;

// Single messages carry a number that counts those between two ranks, as their tag. So one message too many or too few
// is never taken for the next one. MPI guarantees tags up to 32767.
constexpr int kNumbers = 1 << 14;
constexpr int kReductionTags = kNumbers;

constexpr size_t round_up(size_t bytes) { return (bytes + 7) / 8 * 8; }

// Calls visit(offset, bytes) for the pieces of a message.
template <class Visit>
void for_each_piece(size_t bytes, Visit visit) {
  const size_t limit = message_limit.load();
  for (size_t begin = 0; begin < bytes; begin += limit) visit(begin, std::min(limit, bytes - begin));
}

class MpiTransfer : public Communicator::Transfer {
 public:
  explicit MpiTransfer(const std::string& where) : where_(where) {}
  ~MpiTransfer() override {
    // Reached only when an error unwinds the stack: the peers may be gone, so nothing is waited for.
    for (MPI_Request& request : requests_) {
      if (request == MPI_REQUEST_NULL) continue;
      MPI_Cancel(&request);
      MPI_Request_free(&request);
    }
  }
  void wait() override {
    const WaitTime waiting;
    const Operation operation(Operation::Kind::kWait, "wait", where_);
    const TraceSpan span("wait " + where_);
    statuses_.resize(requests_.size());
    check_mpi(MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), statuses_.data()), "waiting", where_);
    finish();
  }
  void poll() override {
    int done = 0;
    statuses_.resize(requests_.size());
    check_mpi(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, statuses_.data()), "polling",
              where_);
    if (done) finish();
  }
  MPI_Request* send() { return add(-1); }
  MPI_Request* receive(size_t bytes) { return add(static_cast<int>(bytes)); }

 private:
  MPI_Request* add(int bytes) {
    expected_.push_back(bytes);
    return &requests_.emplace_back(MPI_REQUEST_NULL);
  }
  // MPI accepts a message that is shorter than requested without reporting it.
  void finish() {
    for (size_t i = 0; i < requests_.size(); ++i) {
      int bytes = 0;
      if (expected_[i] < 0) continue;
      MPI_Get_count(&statuses_[i], MPI_BYTE, &bytes);
      if (bytes != expected_[i])
        throw InternalError(
            fmt::format("ranks have called different collectives: {} bytes came where {} were expected, on axis {}, "
                        "report this with the histories below (the last operations, newest last)\n{}",
                        bytes, expected_[i], where_, histories_of_machine()));
    }
    requests_.clear();
    expected_.clear();
  }

  std::string where_;
  std::vector<MPI_Request> requests_;
  std::vector<int> expected_;  // bytes to receive; -1 for a send
  std::vector<MPI_Status> statuses_;
};

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(MPI_Comm communicator, std::string name) : communicator_(communicator), name_(std::move(name)) {
    MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(communicator_, &rank_);
    MPI_Comm_size(communicator_, &size_);
    sent_.resize(static_cast<size_t>(size_));
    received_.resize(static_cast<size_t>(size_));
  }
  ~MpiCommunicator() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (!finalized) MPI_Comm_free(&communicator_);
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }
  MPI_Comm native() const { return communicator_; }

  void all_reduce(Tensor x, Reduction reduction) override;
  void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override;
  void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) override;
  void broadcast(Tensor x, int root) override;
  void barrier() override {
    const WaitTime waiting;
    const Operation operation(Operation::Kind::kWait, "barrier", name_);
    note("barrier", 0, DType::kUInt8);
    if (size_ > 1) gather_small(nullptr, 0);
  }
  std::unique_ptr<Transfer> start_exchange(Tensor send, int to, Tensor receive, int from, Kind kind) override;
  std::unique_ptr<Communicator> split(int color, int key, std::string name) override {
    const Operation operation(Operation::Kind::kWait, "split", name_);
    note("split", 0, DType::kUInt8);
    MPI_Comm made = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(communicator_, color, key, &made), "a split", name_);
    return make_mpi_communicator(made, std::move(name));
  }

 private:
  // Gathers a few bytes from every rank. Each rank's bytes are followed by its stamp, which must be the same on all
  // ranks. part(r) is where the bytes of rank r begin in scratch_ (8-byte aligned).
  void gather_small(const void* x, size_t bytes) { gather_small(x, even(static_cast<int64_t>(bytes))); }
  void gather_small(const void* x, const std::vector<int64_t>& bytes);
  const char* part(int r) const { return scratch_.data() + part_begin_[static_cast<size_t>(r)]; }
  int next_number(std::vector<uint32_t>& numbers, int rank) {
    return static_cast<int>(numbers[static_cast<size_t>(rank)]++ % kNumbers);
  }
  void look_for_strays() override;
  // Concatenates the bytes of all ranks, without checks and counting.
  void gather_bytes(char* y, const char* x, const std::vector<int64_t>& bytes);
  void all_reduce_small(Tensor x, Reduction reduction);
  // y = this rank's share of the sum over ranks of x. Rank r's share has counts[r] elements and starts at element
  // begin[r].
  void reduce_shares(char* y, const char* x, DType dtype, const std::vector<int64_t>& begin,
                     const std::vector<int64_t>& counts, Reduction reduction);

  MPI_Comm communicator_;
  int rank_ = 0;
  int size_ = 1;
  std::string name_;
  std::vector<uint32_t> sent_, received_;  // number of single messages so far to and from each rank
  std::vector<size_t> part_begin_;
  std::vector<char> scratch_;  // kept, so that a step allocates nothing after the first one
};

void MpiCommunicator::gather_small(const void* x, const std::vector<int64_t>& bytes) {
  part_begin_.resize(bytes.size());
  std::vector<int> counts, begin;
  size_t at = 0;
  for (size_t r = 0; r < bytes.size(); ++r) {
    part_begin_[r] = at;
    begin.push_back(static_cast<int>(at));
    counts.push_back(static_cast<int>(sizeof(Stamp) + round_up(static_cast<size_t>(bytes[r]))));
    at += static_cast<size_t>(counts.back());
  }
  const auto own = static_cast<size_t>(rank_);
  const size_t own_bytes = static_cast<size_t>(counts[own]);
  scratch_.resize(std::max(scratch_.size(), at + own_bytes));
  std::fill_n(scratch_.begin(), at, char{0});
  char* packed = scratch_.data() + at;
  const Stamp stamp = history();
  std::fill_n(packed, own_bytes, char{0});
  if (bytes[own] > 0) std::memcpy(packed, x, static_cast<size_t>(bytes[own]));
  std::memcpy(packed + own_bytes - sizeof stamp, &stamp, sizeof stamp);
  check_mpi(MPI_Allgatherv(packed, static_cast<int>(own_bytes), MPI_BYTE, scratch_.data(), counts.data(), begin.data(),
                           MPI_BYTE, communicator_),
            "an all-gather", name_);
  for (int r = 0; r < size_; ++r) {
    Stamp other = 0;
    const auto index = static_cast<size_t>(r);
    std::memcpy(&other, part(r) + static_cast<size_t>(counts[index]) - sizeof other, sizeof other);
    if (other != stamp) histories_differ(r);
  }
}

// A message with a number below those already received from its rank was sent once too often.
void MpiCommunicator::look_for_strays() {
  int there = 0;
  MPI_Status status;
  check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, communicator_, &there, &status), "looking for messages", name_);
  if (!there) return;
  for (int r = 0; r < size_; ++r) {
    check_mpi(MPI_Iprobe(r, MPI_ANY_TAG, communicator_, &there, &status), "looking for messages", name_);
    if (!there) continue;
    const uint32_t expected = received_[static_cast<size_t>(r)] % kNumbers;
    const uint32_t number = static_cast<uint32_t>(status.MPI_TAG) % kNumbers;
    if ((number - expected) % kNumbers >= kNumbers / 2) histories_differ(r);
  }
}

void MpiCommunicator::gather_bytes(char* y, const char* x, const std::vector<int64_t>& bytes) {
  int64_t total = 0;
  for (int64_t part : bytes) total += part;
  if (total <= static_cast<int64_t>(message_limit.load())) {
    std::vector<int> counts(bytes.begin(), bytes.end()), begin(bytes.size());
    for (size_t r = 1; r < bytes.size(); ++r) begin[r] = begin[r - 1] + counts[r - 1];
    const bool in_place = y + begin[static_cast<size_t>(rank_)] == x;
    check_mpi(MPI_Allgatherv(in_place ? MPI_IN_PLACE : x, counts[static_cast<size_t>(rank_)], MPI_BYTE, y,
                             counts.data(), begin.data(), MPI_BYTE, communicator_),
              "an all-gather", name_);
    return;
  }
  int64_t begin = 0;
  for (int r = 0; r < size_; ++r) {
    char* part = y + begin;
    const size_t part_bytes = static_cast<size_t>(bytes[static_cast<size_t>(r)]);
    if (r == rank_ && part != x && part_bytes > 0) std::memcpy(part, x, part_bytes);
    for_each_piece(part_bytes, [&](size_t offset, size_t count) {
      check_mpi(MPI_Bcast(part + offset, static_cast<int>(count), MPI_BYTE, r, communicator_), "an all-gather", name_);
    });
    begin += bytes[static_cast<size_t>(r)];
  }
}

void MpiCommunicator::all_reduce_small(Tensor x, Reduction reduction) {
  gather_small(x.raw(), x.bytes());
  std::vector<const void*> parts;
  for (int r = 0; r < size_; ++r) parts.push_back(part(r));
  reduce_in_rank_order(x, parts, reduction);
}

void MpiCommunicator::reduce_shares(char* y, const char* x, DType dtype, const std::vector<int64_t>& begin,
                                    const std::vector<int64_t>& counts, Reduction reduction) {
  const int64_t width = static_cast<int64_t>(size_of(dtype));
  const int64_t limit = static_cast<int64_t>(message_limit.load()) / width / size_;
  const int64_t block = std::max<int64_t>(1, std::min(kReductionBlock, limit));
  const int64_t longest = *std::max_element(counts.begin(), counts.end());
  const int64_t own = counts[static_cast<size_t>(rank_)];
  const size_t part_bytes = static_cast<size_t>(std::min(block, std::max<int64_t>(own, 1)) * width);
  // Shares are sent from where they lie and received side by side.
  scratch_.resize(std::max(scratch_.size(), part_bytes * static_cast<size_t>(size_)));
  for (int64_t at = 0; at < longest; at += block) {
    const int64_t here = std::clamp<int64_t>(own - at, 0, block);
    MpiTransfer transfer(name_);
    std::vector<const void*> parts;
    for (int r = 0; r < size_; ++r) {
      char* part = scratch_.data() + static_cast<size_t>(r) * part_bytes;
      if (r == rank_) {
        parts.push_back(x + (begin[static_cast<size_t>(rank_)] + at) * width);
        continue;
      }
      parts.push_back(part);
      if (here > 0)
        check_mpi(
            MPI_Irecv(part, static_cast<int>(here * width), MPI_BYTE, r, kReductionTags + next_number(received_, r),
                      communicator_, transfer.receive(static_cast<size_t>(here * width))),
            "a reduction", name_);
    }
    for (int step = 1; step < size_; ++step) {
      const int r = (rank_ + step) % size_;
      const int64_t there = std::clamp<int64_t>(counts[static_cast<size_t>(r)] - at, 0, block);
      if (there > 0)
        check_mpi(MPI_Isend(x + (begin[static_cast<size_t>(r)] + at) * width, static_cast<int>(there * width), MPI_BYTE,
                            r, kReductionTags + next_number(sent_, r), communicator_, transfer.send()),
                  "a reduction", name_);
    }
    transfer.wait();
    if (here > 0) reduce_in_rank_order(Tensor(y + at * width, dtype, {here}), parts, reduction);
  }
}

void MpiCommunicator::all_reduce(Tensor x, Reduction reduction) {
  const WaitTime waiting;
  CHECK(x.packed(), "all_reduce of a tensor with gaps", describe(x));
  const Operation operation(Operation::Kind::kWait, "all_reduce", name_, x.count(), static_cast<int>(x.dtype()));
  note("all_reduce", x.count(), x.dtype(), static_cast<uint64_t>(reduction));
  count_all_reduce(x.count(), static_cast<int64_t>(size_of(x.dtype())));
  if (size_ == 1 || x.empty()) return;
  const TraceSpan span("all_reduce " + name_);
  if (x.bytes() <= kSmall) return all_reduce_small(x, reduction);
  const int64_t width = static_cast<int64_t>(size_of(x.dtype()));
  std::vector<int64_t> begin, counts, bytes;
  for (int r = 0; r < size_; ++r) {
    const Range share = share_of(x.count(), size_, r);
    begin.push_back(share.begin);
    counts.push_back(share.size());
    bytes.push_back(share.size() * width);
  }
  char* data = static_cast<char*>(x.raw());
  char* own = data + begin[static_cast<size_t>(rank_)] * width;
  reduce_shares(own, data, x.dtype(), begin, counts, reduction);
  gather_bytes(data, own, bytes);
}

void MpiCommunicator::reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) {
  const WaitTime waiting;
  CHECK(y.packed() && x.packed() && y.dtype() == x.dtype() && y.size(0) == counts[static_cast<size_t>(rank_)],
        "reduce_scatter shapes", describe(y), describe(x));
  const Operation operation(Operation::Kind::kWait, "reduce_scatter", name_, x.count(), static_cast<int>(x.dtype()));
  note("reduce_scatter", x.count(), x.dtype(), detail_of(counts));
  count_reduce_scatter(static_cast<int64_t>(x.bytes()), static_cast<int64_t>(y.bytes()));
  const int64_t row = x.size(0) == 0 ? 0 : x.count() / x.size(0);
  std::vector<int64_t> begin, elements;
  int64_t at = 0;
  for (int64_t rows : counts) {
    begin.push_back(at * row);
    elements.push_back(rows * row);
    at += rows;
  }
  CHECK(at == x.size(0), "rows announced and given differ", at, x.size(0));
  if (x.empty()) return;
  const TraceSpan span("reduce_scatter " + name_);
  reduce_shares(static_cast<char*>(y.raw()), static_cast<const char*>(x.raw()), x.dtype(), begin, elements,
                Reduction::kSum);
}

void MpiCommunicator::all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) {
  const WaitTime waiting;
  CHECK(y.packed() && x.packed() && y.dtype() == x.dtype() && x.size(0) == counts[static_cast<size_t>(rank_)],
        "all_gather shapes", describe(y), describe(x));
  const Operation operation(Operation::Kind::kWait, "all_gather", name_, y.count(), static_cast<int>(y.dtype()));
  note("all_gather", y.count(), y.dtype(), detail_of(counts));
  count_all_gather(static_cast<int64_t>(x.bytes()));
  int64_t rows = 0;
  for (int64_t count : counts) rows += count;
  CHECK(rows == y.size(0), "rows announced and received differ", rows, y.size(0));
  if (y.empty()) return;
  const TraceSpan span("all_gather " + name_);
  const int64_t row_bytes = static_cast<int64_t>(y.bytes()) / y.size(0);
  std::vector<int64_t> bytes;
  for (int64_t count : counts) bytes.push_back(count * row_bytes);
  if (size_ > 1 && y.bytes() <= kSmall) {
    gather_small(x.raw(), bytes);
    char* to = static_cast<char*>(y.raw());
    for (int r = 0; r < size_; to += bytes[static_cast<size_t>(r++)])
      if (bytes[static_cast<size_t>(r)] > 0)
        std::memcpy(to, part(r), static_cast<size_t>(bytes[static_cast<size_t>(r)]));
    return;
  }
  gather_bytes(static_cast<char*>(y.raw()), static_cast<const char*>(x.raw()), bytes);
}

void MpiCommunicator::broadcast(Tensor x, int root) {
  const WaitTime waiting;
  CHECK(x.packed(), "broadcast of a tensor with gaps", describe(x));
  const Operation operation(Operation::Kind::kWait, "broadcast", name_, x.count(), static_cast<int>(x.dtype()));
  note("broadcast", x.count(), x.dtype(), static_cast<uint64_t>(root));
  count_broadcast(static_cast<int64_t>(x.bytes()), root);
  if (size_ == 1) return;
  // The stamp follows small data in the same message, and precedes large data.
  const bool small = x.bytes() <= kSmall;
  std::vector<char> packed(sizeof(Stamp) + (small ? x.bytes() : 0));
  const Stamp stamp = history();
  if (rank_ == root) {
    if (small && x.bytes() > 0) std::memcpy(packed.data(), x.raw(), x.bytes());
    std::memcpy(packed.data() + packed.size() - sizeof stamp, &stamp, sizeof stamp);
  }
  check_mpi(MPI_Bcast(packed.data(), static_cast<int>(packed.size()), MPI_BYTE, root, communicator_), "a broadcast",
            name_);
  if (std::memcmp(packed.data() + packed.size() - sizeof stamp, &stamp, sizeof stamp) != 0) histories_differ(root);
  if (small) {
    if (rank_ != root && x.bytes() > 0) std::memcpy(x.raw(), packed.data(), x.bytes());
    return;
  }
  for_each_piece(x.bytes(), [&](size_t offset, size_t bytes) {
    check_mpi(MPI_Bcast(static_cast<char*>(x.raw()) + offset, static_cast<int>(bytes), MPI_BYTE, root, communicator_),
              "a broadcast", name_);
  });
}

std::unique_ptr<Communicator::Transfer> MpiCommunicator::start_exchange(Tensor send, int to, Tensor receive, int from,
                                                                        Kind kind) {
  const Operation operation(Operation::Kind::kStart, "exchange", name_,
                            send      ? send.count()
                            : receive ? receive.count()
                                      : 0,
                            send ? static_cast<int>(send.dtype()) : -1);
  auto transfer = std::make_unique<MpiTransfer>(name_);
  if (receive && from >= 0) {
    CHECK(receive.packed(), "exchanges are of packed tensors", describe(receive));
    for_each_piece(receive.bytes(), [&](size_t offset, size_t bytes) {
      check_mpi(MPI_Irecv(static_cast<char*>(receive.raw()) + offset, static_cast<int>(bytes), MPI_BYTE, from,
                          next_number(received_, from), communicator_, transfer->receive(bytes)),
                "a receive", name_);
    });
  }
  if (send && to >= 0) {
    CHECK(send.packed(), "exchanges are of packed tensors", describe(send));
    count_exchange(to == rank_ ? 0 : static_cast<int64_t>(send.bytes()), kind);
    for_each_piece(send.bytes(), [&](size_t offset, size_t bytes) {
      check_mpi(MPI_Isend(static_cast<char*>(send.raw()) + offset, static_cast<int>(bytes), MPI_BYTE, to,
                          next_number(sent_, to), communicator_, transfer->send()),
                "a send", name_);
    });
  }
  return transfer;
}

}  // namespace

void check_mpi(int code, const char* what, const std::string& where) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  int kind = MPI_SUCCESS;
  MPI_Error_class(code, &kind);
  if (kind == MPI_ERR_TRUNCATE)
    throw InternalError(
        fmt::format("ranks have called different collectives: {} brought more than this rank expected, on "
                    "axis {}, report this with the histories below (the last operations, newest last)\n{}",
                    what, where, histories_of_machine()));
  fail(ExitCode::kLostPeer, "{} failed ({}), on axis {}, look for a rank that died and start again", what,
       std::string_view(text, static_cast<size_t>(length)), where);
}

std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm communicator, std::string name) {
  return std::make_unique<MpiCommunicator>(communicator, std::move(name));
}

std::optional<MPI_Comm> mpi_native(Communicator& group) {
  if (const auto* mpi = dynamic_cast<MpiCommunicator*>(&group)) return mpi->native();
  return std::nullopt;
}

void set_mpi_message_limit(size_t bytes) { message_limit.store(bytes == 0 ? kMessageLimit : bytes); }

}  // namespace carillon
