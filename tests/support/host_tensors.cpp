#include "tests/support/host_tensors.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "runtime/cuda/loader/library.h"
#include "runtime/forwarding_backend.h"
#include "tests/support/isolated_backend.h"

namespace carillon::testing {
namespace {

class HostTensors : public ForwardingBackend {
 public:
  explicit HostTensors(std::unique_ptr<Backend> device) : ForwardingBackend(std::move(device)) {}

  // Tensors are in host memory, so copies use the base class, which calls upload and download.
  Buffer allocate(size_t bytes) override { return Buffer::host(bytes); }
  Buffer allocate_host(size_t bytes) override { return Buffer::host(bytes); }
  void upload(Tensor to, Tensor host) override { copy(to, host); }
  void download(Tensor host, Tensor from) override { copy(host, from); }
  void* queue() override { return nullptr; }
  bool unified() const override { return true; }
  DeviceMemory memory() override { return {}; }
  bool holds(const void*) const override { return false; }
  std::unique_ptr<Copy> start_upload(Tensor device, Tensor host) override {
    return Backend::start_upload(device, host);
  }
  std::unique_ptr<Copy> start_download(Tensor host, Tensor device) override {
    return Backend::start_download(host, device);
  }

 private:
  // Host memory from the first to the last byte of one tensor, or of several that overlap, and its copy on the device.
  struct Range {
    char *begin, *end;
    Buffer buffer;
  };

  static Range range_of(const Tensor& x) {
    auto* begin = static_cast<char*>(x.raw());
    int64_t last = 0;
    for (int dim = 0; dim < x.rank(); ++dim) last += (x.size(dim) - 1) * x.stride(dim);
    return {begin, begin + (last + 1) * static_cast<int64_t>(size_of(x.dtype())), {}};
  }

  // The view x of the device's copy.
  static Tensor moved(const Tensor& x, const std::vector<Range>& ranges) {
    if (!x || x.empty()) return x;
    auto* at = static_cast<char*>(x.raw());
    const auto range =
        std::find_if(ranges.begin(), ranges.end(), [&](const Range& r) { return r.begin <= at && at < r.end; });
    return x.over(static_cast<char*>(range->buffer.data()) + (at - range->begin));
  }

  // Copies the op's tensors to the device, runs the op on the copies, and copies them back.
  void around(OpCall& call, const std::function<void()>& run) override {
    std::vector<Tensor>& tensors = call.operands;
    std::vector<Range> ranges;
    for (const Tensor& x : tensors)
      if (x && !x.empty()) ranges.push_back(range_of(x));
    std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    std::vector<Range> merged;
    for (Range& range : ranges) {
      if (!merged.empty() && range.begin < merged.back().end)
        merged.back().end = std::max(merged.back().end, range.end);
      else
        merged.push_back(std::move(range));
    }
    const auto bytes = [](const Range& range, void* data) {
      return Tensor(data, DType::kUInt8, {range.end - range.begin});
    };
    for (Range& range : merged) {
      range.buffer = inner().allocate(static_cast<size_t>(range.end - range.begin));
      inner().upload(bytes(range, range.buffer.data()), bytes(range, range.begin));
    }
    for (Tensor& x : tensors) x = moved(x, merged);
    run();
    for (const Range& range : merged) inner().download(bytes(range, range.begin), bytes(range, range.buffer.data()));
  }
};

}  // namespace

std::unique_ptr<Backend> on_host_tensors(std::unique_ptr<Backend> device) {
  if (device->unified()) return device;
  return std::make_unique<HostTensors>(std::move(device));
}

std::vector<std::string> kinds_under_test() {
  const char* device = std::getenv("CARILLON_TEST_DEVICE");
  if (device != nullptr && std::string_view(device) == "cuda") return {"cuda"};
  return make_backend({.device = "cpu"})->describe().available;
}

std::string why_skipped(const std::string& kind) {
  const std::string problem = is_cuda(kind) ? survey_cuda().problem : "";
  return problem.empty() ? "" : "ALL TESTS SKIPPED: " + problem;
}

bool enough_devices(int ranks) {
  const size_t devices = survey_cuda().devices.size();
  if (devices >= static_cast<size_t>(ranks) || (devices > 0 && devices_are_shared())) return true;
  fmt::print("left out: {} ranks, there are {} devices\n", ranks, devices);
  return false;
}

std::unique_ptr<Backend> make_under_test(const std::string& kind, int threads) {
  if (is_cuda(kind)) return on_host_tensors(make_backend({.device = "cuda"}));
  return make_backend({.device = "cpu", .threads = threads, .instruction_set = kind});
}

}  // namespace carillon::testing
