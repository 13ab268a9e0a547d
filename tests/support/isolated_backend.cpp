#include "tests/support/isolated_backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <string_view>
#include <vector>

#include "runtime/cuda/loader/library.h"
#include "runtime/forwarding_backend.h"

namespace carillon::testing {
namespace {

class IsolatedBackend : public ForwardingBackend {
 public:
  explicit IsolatedBackend(std::unique_ptr<Backend> inner) : ForwardingBackend(std::move(inner)) {}

  DeviceDescription describe() const override {
    DeviceDescription device = inner().describe();
    device.name = "isolated " + device.name;
    return device;
  }
  bool unified() const override { return false; }
  bool holds(const void* pointer) const override {
    const auto after = regions_.upper_bound(static_cast<const char*>(pointer));
    if (after == regions_.begin()) return false;
    const auto& [begin, bytes] = *std::prev(after);
    return static_cast<const char*>(pointer) < begin + bytes;
  }
  Buffer allocate(size_t bytes) override {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t rounded = (std::max<size_t>(bytes, 1) + page - 1) / page * page;
    void* data = mmap(nullptr, rounded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) fail(ExitCode::kInputOutput, "no memory for {} bytes, isolated backend, give more", bytes);
    regions_[static_cast<char*>(data)] = rounded;
    return Buffer(data, bytes, [this, rounded](void* pointer) {
      regions_.erase(static_cast<char*>(pointer));
      munmap(pointer, rounded);
    });
  }
  void upload(Tensor device, Tensor host) override {
    require_host("upload", host);
    CHECK(device.packed(), "uploads are of packed tensors", describe_tensor(device));
    on("upload", {device}, [&] { inner().upload(device, host); });
  }
  void download(Tensor host, Tensor device) override {
    require_host("download", host);
    CHECK(device.packed(), "downloads are of packed tensors", describe_tensor(device));
    on("download", {device}, [&] { inner().download(host, device); });
  }
  void synchronize() override {}
  std::unique_ptr<Copy> start_upload(Tensor device, Tensor host) override {
    return Backend::start_upload(device, host);
  }
  std::unique_ptr<Copy> start_download(Tensor host, Tensor device) override {
    return Backend::start_download(host, device);
  }

 private:
  void around(OpCall& call, const std::function<void()>& run) override { on(name_of(call.op), call.operands, run); }
  static std::string describe_tensor(const Tensor& tensor) { return carillon::describe(tensor); }
  void require_host(const char* op, Tensor host) const {
    CHECK(host.empty() || !holds(host.raw()), "device memory taken for the host's", op, describe_tensor(host));
  }
  // Makes the pages accessible while `body` runs.
  void on(const char* op, const std::vector<Tensor>& operands, const std::function<void()>& body) {
    for (const Tensor& operand : operands)
      CHECK(operand.empty() || holds(operand.raw()), "host memory handed to an op of the device", op,
            describe_tensor(operand));
    struct Opened {
      const std::map<const char*, size_t>& regions;
      explicit Opened(const std::map<const char*, size_t>& all) : regions(all) { protect(PROT_READ | PROT_WRITE); }
      ~Opened() { protect(PROT_NONE); }
      void protect(int how) const {
        for (const auto& [begin, bytes] : regions) mprotect(const_cast<char*>(begin), bytes, how);
      }
    } const opened(regions_);
    body();
  }

  std::map<const char*, size_t> regions_;
};

}  // namespace

std::unique_ptr<Backend> make_isolated_backend(std::unique_ptr<Backend> inner) {
  return std::make_unique<IsolatedBackend>(std::move(inner));
}

bool devices_are_shared() {
  const char* shared = std::getenv("CARILLON_TEST_SHARED_DEVICE");
  return shared != nullptr && std::string_view(shared) == "1";
}

std::unique_ptr<Backend> make_test_backend(BackendOptions options) {
  if (options.device == "cuda" && devices_are_shared())
    if (const auto devices = static_cast<int>(survey_cuda().devices.size()); devices > 0)
      options.device_index %= devices;
  const bool isolated = options.device.starts_with("isolated");
  if (isolated) options.device = options.device == "isolated-cpu" ? "cpu" : "reference";
  auto backend = make_backend(options);
  return isolated ? make_isolated_backend(std::move(backend)) : std::move(backend);
}

}  // namespace carillon::testing
