#include "parallel/transport/nccl_library.h"

#include <cstdlib>
#include <string_view>

#include "parallel/injected_fault.h"
#include "parallel/transport/nccl_communicator.h"
#include "runtime/cuda/loader/library.h"

namespace carillon {
namespace {

using MakeNccl = decltype(&carillon_make_nccl_communicator);

// Returns nullptr if the library is missing, or NCCL in it.
MakeNccl find_nccl() {
  try {
    return reinterpret_cast<MakeNccl>(cuda_library_symbol("carillon_make_nccl_communicator"));
  } catch (const Error&) {
    return nullptr;
  }
}

NcclOptions options_from_environment() {
  NcclOptions options;
  if (const char* seconds = std::getenv("CARILLON_NCCL_TIMEOUT")) options.timeout_seconds = std::atof(seconds);
  if (!(options.timeout_seconds > 0))
    fail(ExitCode::kUsage, "CARILLON_NCCL_TIMEOUT is not a number of seconds, in the environment, unset it");
  options.drops_exchange_wait = [] { return injected(InjectedFault::kExchangeNotAwaited); };
  options.drops_collective_wait = [] { return injected(InjectedFault::kCollectiveNotAwaited); };
  return options;
}

}  // namespace

std::unique_ptr<DeviceTransport> make_device_transport(Backend& backend, Communicator& host) {
  const char* text = std::getenv("CARILLON_DEVICE_TRANSPORT");
  const std::string_view wish = text == nullptr ? "" : text;
  if (wish != "" && wish != "nccl" && wish != "staged")
    fail(ExitCode::kUsage, "CARILLON_DEVICE_TRANSPORT is neither nccl nor staged, in the environment, unset it");
  const MakeNccl make = wish == "staged" ? nullptr : find_nccl();
  // All ranks or none: with different transports ranks would wait for each other for ever.
  const bool everywhere = host.min(int64_t{make != nullptr}) != 0;
  if (!everywhere && wish == "nccl")
    fail(ExitCode::kUsage,
         "NCCL is not in the device's library of every rank, in CARILLON_DEVICE_TRANSPORT=nccl, unset it or build with "
         "NCCL");
  if (!everywhere) return make_staged_transport(backend, host);
  const NcclOptions options = options_from_environment();
  return std::unique_ptr<DeviceTransport>(make(&backend, &host, &options));
}

int64_t nccl_bytes(const OpenedGroups& groups) {
  constexpr int64_t kSimple = int64_t{4} << 20, kLl128 = 120 * 640 * 8 * 8, kLl = 8 * 512 * 8 * 16;
  constexpr int64_t kOfReductions = 3;
  return kNcclChannels * (kSimple + kLl128 + kLl) * (kOfReductions * groups.groups + groups.partners);
}

std::string nccl_version() {
  try {
    const auto version =
        reinterpret_cast<decltype(&carillon_nccl_version)>(cuda_library_symbol("carillon_nccl_version"));
    const int number = version();
    return fmt::format("{}.{}.{}", number / 10000, number / 100 % 100, number % 100);
  } catch (const Error&) {
    return "";
  }
}

}  // namespace carillon
