#include "parallel/transport/device_communicator.h"
#include "runtime/buffer.h"

namespace carillon {
namespace {

// Reductions and broadcasts proceed in pieces of this size; gathers and exchanges are staged as a whole.
constexpr int64_t kPieceBytes = int64_t{32} << 20;

// Reused host memory, so that a step allocates nothing after the first one.
class Pool {
 public:
  Buffer take(size_t bytes) {
    for (Buffer& buffer : free_)
      if (buffer.bytes() >= bytes) {
        Buffer taken = std::move(buffer);
        std::swap(buffer, free_.back());
        free_.pop_back();
        return taken;
      }
    return Buffer::host(bytes);
  }
  void give(Buffer buffer) {
    if (buffer.data() != nullptr) free_.push_back(std::move(buffer));
  }

 private:
  std::vector<Buffer> free_;
};

// A host copy of `device` that lives as long as this object.
class Staging {
 public:
  Staging(Pool& pool, Backend& backend, Tensor device)
      : pool_(pool), backend_(backend), device_(device), buffer_(pool.take(device.bytes())) {
    if (device_) host_ = Tensor(buffer_.data(), device_.dtype(), device_.shape());
  }
  ~Staging() { pool_.give(std::move(buffer_)); }
  Staging(const Staging&) = delete;
  Tensor host() const { return host_; }
  void download() {
    if (!device_.empty()) backend_.download(host_, device_);
  }
  void upload() {
    if (!device_.empty()) backend_.upload(device_, host_);
  }

 private:
  Pool& pool_;
  Backend& backend_;
  Tensor device_, host_;
  Buffer buffer_;
};

class StagedTransfer : public Communicator::Transfer {
 public:
  StagedTransfer(Pool& pool, Backend& backend, Communicator& host, Tensor send, int to, Tensor receive, int from)
      : send_(pool, backend, send), receive_(pool, backend, receive) {
    send_.download();
    transfer_ = host.start_exchange(send_.host(), to, receive_.host(), from);
  }
  ~StagedTransfer() override { transfer_.reset(); }
  void wait() override {
    transfer_->wait();
    receive_.upload();
  }
  void poll() override { transfer_->poll(); }

 private:
  Staging send_, receive_;
  std::unique_ptr<Communicator::Transfer> transfer_;
};

// Immediate: the host would have to wait for the download anyway.
class StagedTransport : public ImmediateTransport {
 public:
  StagedTransport(Backend& backend, Communicator& host) : backend_(backend), host_(host) {}
  std::string describe() const override { return "host memory"; }
  bool through_host() const override { return true; }

  void all_reduce(Tensor x, Reduction reduction) override {
    for_each_piece(x, [&](Staging& piece) {
      piece.download();
      host_.all_reduce(piece.host(), reduction);
      piece.upload();
    });
  }
  void broadcast(Tensor x, int root) override {
    for_each_piece(x, [&](Staging& piece) {
      if (host_.rank() == root) piece.download();
      host_.broadcast(piece.host(), root);
      if (host_.rank() != root) piece.upload();
    });
  }
  void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    Staging all(pool_, backend_, y), own(pool_, backend_, x);
    own.download();
    host_.all_gather(all.host(), own.host(), counts);
    all.upload();
  }
  void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    Staging all(pool_, backend_, x), own(pool_, backend_, y);
    all.download();
    host_.reduce_scatter(own.host(), all.host(), counts);
    own.upload();
  }
  std::unique_ptr<Communicator::Transfer> start_exchange(Tensor send, int to, Tensor receive, int from) override {
    return std::make_unique<StagedTransfer>(pool_, backend_, host_, send, to, receive, from);
  }

 private:
  template <class Body>
  void for_each_piece(Tensor x, Body body) {
    const Tensor flat = x.reshape({x.count()});
    const int64_t at_once = kPieceBytes / static_cast<int64_t>(size_of(x.dtype()));
    for (int64_t begin = 0; begin < flat.count(); begin += at_once) {
      Staging piece(pool_, backend_, flat.rows(begin, std::min(flat.count(), begin + at_once)));
      body(piece);
    }
  }

  Backend& backend_;
  Communicator& host_;
  Pool pool_;
};

}  // namespace

std::unique_ptr<DeviceTransport> make_staged_transport(Backend& backend, Communicator& host) {
  return std::make_unique<StagedTransport>(backend, host);
}

}  // namespace carillon
