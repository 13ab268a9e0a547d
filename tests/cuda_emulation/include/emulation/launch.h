// cudaLaunchKernelEx: queues a kernel with a copy of its arguments, which another process runs later for every thread
// (README.md, "The device").
#pragma once

#include <new>
#include <tuple>
#include <type_traits>

#include "emulation/runtime_api.h"

namespace carillon_emulation {

// Calls the kernel once, for the thread that threadIdx names.
using Invoke = void (*)(void (*kernel)(), const void* arguments);

cudaError_t launch(const cudaLaunchConfig_t& config, void (*kernel)(), Invoke invoke, const void* arguments,
                   std::size_t bytes);

}  // namespace carillon_emulation

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
  static_assert(sizeof...(P) == sizeof...(A), "the kernel takes another number of arguments");
  static_assert((std::is_trivially_copyable_v<std::remove_cvref_t<P>> && ...),
                "a kernel's arguments are copied byte by byte");
  static_assert((!std::is_reference_v<P> && ...), "a kernel cannot take a reference");
  using Arguments = std::tuple<std::remove_cv_t<P>...>;
  alignas(Arguments) unsigned char copy[sizeof(Arguments)] = {};
  auto* const copied = new (copy) Arguments(std::forward<A>(arguments)...);
  // Clear the padding, so that stale bytes are not mistaken for a pointer (launch.cpp).
  std::apply([](auto&... argument) { (__builtin_clear_padding(&argument), ...); }, *copied);
  const auto invoke = [](void (*function)(), const void* bytes) {
    std::apply(reinterpret_cast<void (*)(P...)>(function), *static_cast<const Arguments*>(bytes));
  };
  return carillon_emulation::launch(*config, reinterpret_cast<void (*)()>(kernel), invoke, copy, sizeof(copy));
}
