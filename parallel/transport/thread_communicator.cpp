#include "parallel/transport/thread_communicator.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <random>
#include <thread>

#include "parallel/shard.h"
#include "parallel/transport/rank_order.h"

namespace carillon {
namespace {

std::atomic<int> longest_delay{0};

void delay() {
  const int longest = longest_delay.load(std::memory_order_relaxed);
  if (longest == 0) return;
  thread_local std::minstd_rand numbers(std::random_device{}());
  std::this_thread::sleep_for(std::chrono::microseconds(numbers() % static_cast<unsigned>(longest)));
}

// Thrown in ranks that wait for a failed rank.
struct PeerFailed : Error {
  PeerFailed() : Error(ExitCode::kLostPeer, "another rank has failed, in a thread group, see its error") {}
};

// One half of an exchange, waiting for the other.
struct Pending {
  void* data;
  size_t bytes;
  bool done = false;
};

struct Group {
  Group(int ranks, std::shared_ptr<std::atomic<bool>> failed_flag)
      : size(ranks),
        failed(std::move(failed_flag)),
        slot(static_cast<size_t>(ranks)),
        mail(slot.size() * slot.size()) {}

  // Waits until condition() holds, or a rank has failed. `lock` is held.
  template <class Condition>
  void wait(std::unique_lock<std::mutex>& lock, Condition condition) {
    while (!condition()) {
      if (failed->load()) throw PeerFailed();
      changed.wait_for(lock, std::chrono::milliseconds(20));
    }
  }
  void barrier() {
    std::unique_lock lock(mutex);
    const int64_t mine = generation;
    if (++arrived == size) {
      arrived = 0;
      ++generation;
      changed.notify_all();
      return;
    }
    wait(lock, [&] { return generation != mine; });
  }

  struct Mail {
    std::deque<std::shared_ptr<Pending>> sends, receives;
  };
  Mail& mail_of(int from, int to) { return mail[static_cast<size_t>(from) * slot.size() + static_cast<size_t>(to)]; }

  const int size;
  std::shared_ptr<std::atomic<bool>> failed;
  std::mutex mutex;
  std::condition_variable changed;
  int arrived = 0;
  int64_t generation = 0;
  std::vector<const void*> slot;
  std::vector<Mail> mail;
  // For split(): what each rank requested and what it gets.
  std::vector<std::pair<int, int>> color_key;
  std::vector<std::shared_ptr<Group>> made;
};

class ThreadTransfer : public Communicator::Transfer {
 public:
  explicit ThreadTransfer(std::shared_ptr<Group> group) : group_(std::move(group)) {}
  void add(std::shared_ptr<Pending> pending) { pending_.push_back(std::move(pending)); }
  void wait() override {
    delay();
    std::unique_lock lock(group_->mutex);
    group_->wait(lock, [&] { return std::all_of(pending_.begin(), pending_.end(), [](auto& p) { return p->done; }); });
  }

 private:
  std::shared_ptr<Group> group_;
  std::vector<std::shared_ptr<Pending>> pending_;
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, int rank, std::string name)
      : group_(std::move(group)), rank_(rank), name_(std::move(name)) {}
  int rank() const override { return rank_; }
  int size() const override { return group_->size; }
  const std::string& name() const override { return name_; }

  void all_reduce(Tensor x, Reduction reduction) override {
    CHECK(x.packed(), "all_reduce of a tensor with gaps", describe(x));
    note("all_reduce", x.count(), x.dtype(), static_cast<uint64_t>(reduction));
    count_all_reduce(x.count(), static_cast<int64_t>(size_of(x.dtype())));
    const std::vector<const void*> parts = show(x.raw());
    std::vector<char> result(x.bytes());
    reduce_in_rank_order(Tensor(result.data(), x.dtype(), {x.count()}), parts, reduction);
    group_->barrier();
    if (!result.empty()) std::memcpy(x.raw(), result.data(), result.size());
  }

  void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    CHECK(y.packed() && x.packed() && x.size(0) == counts[static_cast<size_t>(rank_)], "all_gather shapes", describe(y),
          describe(x));
    note("all_gather", y.count(), y.dtype(), detail_of(counts));
    count_all_gather(static_cast<int64_t>(x.bytes()));
    const std::vector<const void*> parts = show(x.raw());
    int64_t row = 0;
    for (int r = 0; r < size(); ++r) {
      const Tensor to = y.rows(row, row + counts[static_cast<size_t>(r)]);
      if (to.bytes() > 0 && to.raw() != parts[static_cast<size_t>(r)])
        std::memcpy(to.raw(), parts[static_cast<size_t>(r)], to.bytes());
      row += counts[static_cast<size_t>(r)];
    }
    CHECK(row == y.size(0), "rows announced and received differ", row, y.size(0));
    group_->barrier();
  }

  void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    CHECK(y.packed() && x.packed() && y.size(0) == counts[static_cast<size_t>(rank_)], "reduce_scatter shapes",
          describe(y), describe(x));
    note("reduce_scatter", x.count(), x.dtype(), detail_of(counts));
    count_reduce_scatter(static_cast<int64_t>(x.bytes()), static_cast<int64_t>(y.bytes()));
    std::vector<const void*> parts = show(x.raw());
    int64_t row = 0;
    for (int r = 0; r < rank_; ++r) row += counts[static_cast<size_t>(r)];
    const int64_t row_bytes = x.size(0) == 0 ? 0 : static_cast<int64_t>(x.bytes()) / x.size(0);
    for (const void*& part : parts) part = static_cast<const char*>(part) + row * row_bytes;
    std::vector<char> result(y.bytes());
    reduce_in_rank_order(Tensor(result.data(), y.dtype(), {y.count()}), parts, Reduction::kSum);
    group_->barrier();
    if (!result.empty()) std::memcpy(y.raw(), result.data(), result.size());
  }

  void broadcast(Tensor x, int root) override {
    note("broadcast", x.count(), x.dtype(), static_cast<uint64_t>(root));
    count_broadcast(static_cast<int64_t>(x.bytes()), root);
    const std::vector<const void*> parts = show(x.raw());
    if (rank_ != root && x.bytes() > 0) std::memcpy(x.raw(), parts[static_cast<size_t>(root)], x.bytes());
    group_->barrier();
  }

  void barrier() override { group_->barrier(); }

  std::unique_ptr<Transfer> start_exchange(Tensor send, int to, Tensor receive, int from, Kind kind) override {
    delay();
    auto transfer = std::make_unique<ThreadTransfer>(group_);
    const bool sends = send && to >= 0, receives = receive && from >= 0;
    if (sends) count_exchange(to == rank_ ? 0 : static_cast<int64_t>(send.bytes()), kind);
    const std::lock_guard lock(group_->mutex);
    if (sends) {
      Group::Mail& mail = group_->mail_of(rank_, to);
      transfer->add(meet(mail.receives, mail.sends, send, true));
    }
    if (receives) {
      Group::Mail& mail = group_->mail_of(from, rank_);
      transfer->add(meet(mail.sends, mail.receives, receive, false));
    }
    group_->changed.notify_all();
    return transfer;
  }

  std::unique_ptr<Communicator> split(int color, int key, std::string name) override {
    {
      const std::lock_guard lock(group_->mutex);
      group_->color_key.resize(static_cast<size_t>(size()));
      group_->made.resize(static_cast<size_t>(size()));
      group_->color_key[static_cast<size_t>(rank_)] = {color, key};
    }
    group_->barrier();
    std::vector<std::pair<int, int>> members;  // (key, rank)
    for (int r = 0; r < size(); ++r)
      if (group_->color_key[static_cast<size_t>(r)].first == color)
        members.emplace_back(group_->color_key[static_cast<size_t>(r)].second, r);
    std::sort(members.begin(), members.end());
    const int leader = members.front().second;
    if (leader == rank_)
      group_->made[static_cast<size_t>(rank_)] =
          std::make_shared<Group>(static_cast<int>(members.size()), group_->failed);
    group_->barrier();
    const std::shared_ptr<Group> made = group_->made[static_cast<size_t>(leader)];
    group_->barrier();
    const auto mine = std::find_if(members.begin(), members.end(), [&](auto& m) { return m.second == rank_; });
    return std::make_unique<ThreadCommunicator>(made, static_cast<int>(mine - members.begin()), std::move(name));
  }

 private:
  // Makes every rank's pointer visible to all; a barrier must follow before the memory it points to changes.
  std::vector<const void*> show(const void* data) {
    group_->slot[static_cast<size_t>(rank_)] = data;
    group_->barrier();
    return group_->slot;
  }

  // Copies if the other half is already waiting, otherwise queues this half.
  static std::shared_ptr<Pending> meet(std::deque<std::shared_ptr<Pending>>& others,
                                       std::deque<std::shared_ptr<Pending>>& own, Tensor tensor, bool sending) {
    CHECK(tensor.packed(), "exchanges are of packed tensors", describe(tensor));
    auto pending = std::make_shared<Pending>(Pending{tensor.raw(), tensor.bytes()});
    if (others.empty()) {
      own.push_back(pending);
      return pending;
    }
    const std::shared_ptr<Pending> other = others.front();
    others.pop_front();
    CHECK(other->bytes == pending->bytes, "sizes sent and received differ", other->bytes, pending->bytes);
    if (pending->bytes > 0)
      sending ? std::memcpy(other->data, pending->data, pending->bytes)
              : std::memcpy(pending->data, other->data, pending->bytes);
    other->done = pending->done = true;
    return pending;
  }

  std::shared_ptr<Group> group_;
  int rank_;
  std::string name_;
};

}  // namespace

ScopedExchangeDelay::ScopedExchangeDelay(int microseconds) { longest_delay.store(microseconds); }
ScopedExchangeDelay::~ScopedExchangeDelay() { longest_delay.store(0); }

void run_ranks(int ranks, const std::function<void(std::unique_ptr<Communicator>)>& body) {
  const auto failed = std::make_shared<std::atomic<bool>>(false);
  const auto group = std::make_shared<Group>(ranks, failed);
  std::mutex mutex;
  std::exception_ptr first;
  const auto run = [&](int rank) {
    try {
      body(std::make_unique<ThreadCommunicator>(group, rank, "world"));
    } catch (const PeerFailed&) {
      // the rank that failed reports its own error
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!first) first = std::current_exception();
      failed->store(true);
    }
  };
  std::vector<std::thread> threads;
  for (int rank = 1; rank < ranks; ++rank) threads.emplace_back(run, rank);
  run(0);
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace carillon
