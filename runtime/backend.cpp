#include "runtime/backend.h"

#include "runtime/cpu/cpu_backend.h"
#include "runtime/cuda/loader/library.h"
#include "runtime/reference/reference_backend.h"
#include "runtime/traced_backend.h"

namespace carillon {

namespace {

std::unique_ptr<Backend> make_plain(const BackendOptions& options) {
  if (options.device == "reference") return std::make_unique<ReferenceBackend>();
  if (options.device == "cuda") return make_cuda_backend(options);
  if (options.device == "auto" && cuda_usable()) return make_cuda_backend(options);
  if (options.device == "cpu" || options.device == "auto") return make_cpu_backend(options);
  fail(ExitCode::kUsage, "there is no device \"{}\", in runtime.device, use auto, cpu, reference or cuda",
       options.device);
}

class DoneCopy : public Backend::Copy {
 public:
  void wait() override {}
};

}  // namespace

std::unique_ptr<Backend::Copy> Backend::start_upload(Tensor device, Tensor host) {
  upload(device, host);
  return std::make_unique<DoneCopy>();
}

std::unique_ptr<Backend::Copy> Backend::start_download(Tensor host, Tensor device) {
  download(host, device);
  return std::make_unique<DoneCopy>();
}

std::unique_ptr<Backend> make_backend(const BackendOptions& options) {
  auto backend = make_plain(options);
  if (options.attention == "cudnn" && backend->describe().name != "cuda")
    fail(ExitCode::kUsage, "cuDNN's attention is for CUDA devices, in runtime.attention: cudnn, use auto or native");
  return options.traced ? make_traced_backend(std::move(backend)) : std::move(backend);
}

std::vector<double> download_as_double(Backend& backend, Tensor x) {
  std::vector<char> staged(x.bytes());
  backend.download(Tensor(staged.data(), x.dtype(), x.shape()), x);
  std::vector<double> values(static_cast<size_t>(x.count()));
  dispatch_floating(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* source = reinterpret_cast<const T*>(staged.data());
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(source[i]);
  });
  return values;
}

}  // namespace carillon
