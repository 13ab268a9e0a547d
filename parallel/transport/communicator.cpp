#include "parallel/transport/communicator.h"

#include <cstring>

#include "parallel/injected_fault.h"
#include "parallel/shard.h"
#include "parallel/watch/rank_watch.h"
#include "runtime/foreign_error.h"

namespace carillon {

void Communicator::count_all_reduce(int64_t elements, int64_t element_bytes) {
  if (size() == 1) return;
  const int64_t own = share_of(elements, size(), rank()).size();
  traffic_.all_reduce.calls += 1;
  traffic_.all_reduce.bytes += ((elements - own) + (size() - 1) * own) * element_bytes;
}
void Communicator::count_all_gather(int64_t own_bytes) {
  if (size() == 1) return;
  traffic_.all_gather.calls += 1;
  traffic_.all_gather.bytes += (size() - 1) * own_bytes;
}
void Communicator::count_reduce_scatter(int64_t all_bytes, int64_t own_bytes) {
  if (size() == 1) return;
  traffic_.reduce_scatter.calls += 1;
  traffic_.reduce_scatter.bytes += all_bytes - own_bytes;
}
void Communicator::count_broadcast(int64_t bytes, int root) {
  if (size() == 1) return;
  traffic_.broadcast.calls += 1;
  if (rank() == root) traffic_.broadcast.bytes += (size() - 1) * bytes;
}
void Communicator::count_exchange(int64_t sent_bytes, Kind kind) {
  Traffic::Count& count = kind == Kind::kShift ? traffic_.shift : traffic_.message;
  count.calls += 1;
  count.bytes += sent_bytes;
}

void Communicator::note(const char* what, int64_t count, DType dtype, uint64_t detail) {
  uint64_t x = history_ + 0x9E3779B97F4A7C15;
  for (const char* letter = what; *letter != '\0'; ++letter)
    x = (x ^ static_cast<unsigned char>(*letter)) * 0x100000001b3;
  for (const uint64_t word : {static_cast<uint64_t>(count), static_cast<uint64_t>(dtype), detail}) {
    x = (x ^ word) * 0xFF51AFD7ED558CCD;
    x ^= x >> 32;
  }
  history_ = x;
}

uint64_t Communicator::detail_of(const std::vector<int64_t>& counts) {
  uint64_t x = counts.size();
  for (const int64_t count : counts) x = (x ^ static_cast<uint64_t>(count)) * 0x100000001b3 + (x >> 29);
  return x;
}

void Communicator::histories_differ(int other) const {
  throw InternalError(
      fmt::format("ranks {} and {} of group {} have called different collectives, between the ranks of "
                  "this group, report this with the histories below (the last operations, newest last)\n{}",
                  rank(), other, name(), histories_of_machine()));
}

void Communicator::compare_histories() {
  if (size() == 1 || injected(InjectedFault::kHistoriesNotCompared)) return;
  auto mine = static_cast<int64_t>(history_);
  std::vector<int64_t> all(static_cast<size_t>(size()));
  all_gather(Tensor::of(all, {size()}), Tensor(&mine, DType::kInt64, {1}));
  for (int r = 0; r < size(); ++r)
    if (all[static_cast<size_t>(r)] != mine) histories_differ(r);
  look_for_strays();
}

std::unique_ptr<Communicator::Transfer> Communicator::finished() {
  struct Finished : Transfer {
    void wait() override {}
  };
  return std::make_unique<Finished>();
}

std::unique_ptr<Communicator::Transfer> Communicator::start_all_reduces(const std::vector<Tensor>& tensors,
                                                                        Reduction reduction) {
  for (const Tensor& x : tensors) all_reduce(x, reduction);
  return finished();
}
std::unique_ptr<Communicator::Transfer> Communicator::start_all_gather(Tensor y, Tensor x,
                                                                       const std::vector<int64_t>& counts) {
  all_gather(y, x, counts);
  return finished();
}
std::unique_ptr<Communicator::Transfer> Communicator::start_reduce_scatters(const std::vector<ReduceScatter>& parts) {
  for (const ReduceScatter& part : parts) reduce_scatter(part.y, part.x, part.counts);
  return finished();
}

void agree(Communicator& group, const std::function<void()>& body) {
  int64_t code = 0;
  std::string message;
  try {
    body();
  } catch (...) {
    const Error error = error_in_flight();
    code = static_cast<int64_t>(error.code());
    message = error.what();
  }
  if (group.size() == 1) {
    if (code != 0) throw Error(static_cast<ExitCode>(code), message);
    return;
  }
  const int64_t ranks = group.size();
  const int64_t worst = group.max(code == 0 ? 0 : code * ranks + (ranks - 1 - group.rank()));
  if (worst == 0) return;
  const int speaker = static_cast<int>(ranks - 1 - worst % ranks);
  message = broadcast_text(group, std::move(message), speaker);
  throw Error(static_cast<ExitCode>(worst / ranks), message);
}

std::string broadcast_text(Communicator& group, std::string text, int root) {
  int64_t length = static_cast<int64_t>(text.size());
  group.broadcast(Tensor(&length, DType::kInt64, {1}), root);
  text.resize(static_cast<size_t>(length));
  if (length > 0) group.broadcast(Tensor(text.data(), DType::kUInt8, {length}), root);
  return text;
}

namespace {

class SoloCommunicator : public Communicator {
 public:
  explicit SoloCommunicator(std::string name) : name_(std::move(name)) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::string& name() const override { return name_; }

  void all_reduce(Tensor, Reduction) override {}
  void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    CHECK(counts.size() == 1 && counts[0] == x.size(0), "rows given and announced differ", x.size(0));
    copy(y, x);
  }
  void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>&) override { copy(y, x); }
  void broadcast(Tensor, int) override {}
  void barrier() override {}

  std::unique_ptr<Transfer> start_exchange(Tensor send, int to, Tensor receive, int from, Kind) override {
    if (to == 0 && from == 0) copy(receive, send);
    return finished();
  }
  std::unique_ptr<Communicator> split(int, int, std::string name) override {
    return std::make_unique<SoloCommunicator>(std::move(name));
  }

 private:
  static void copy(Tensor y, Tensor x) {
    CHECK(y.packed() && x.packed() && y.bytes() == x.bytes(), "copies of packed tensors of one size", describe(y),
          describe(x));
    if (y.raw() != x.raw() && y.bytes() > 0) std::memcpy(y.raw(), x.raw(), y.bytes());
  }
  std::string name_;
};

}  // namespace

std::unique_ptr<Communicator> solo_communicator(std::string name) {
  return std::make_unique<SoloCommunicator>(std::move(name));
}

}  // namespace carillon
