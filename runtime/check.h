// CHECK(condition, "why it must hold", values...) asserts an invariant of the program. If it does not hold, throws
// InternalError with the place, the condition, the reason and the values. Always enabled; it costs one branch.
#pragma once

#include <string>

#include "runtime/error.h"

namespace carillon::detail {

[[noreturn]] inline void check_failed(const char* file, int line, const char* condition, const std::string& why,
                                      const std::string& values) {
  throw InternalError(
      fmt::format("{}:{}: {}: {}{}", file, line, condition, why, values.empty() ? "" : " (" + values + ")"));
}

template <class... Values>
std::string join_values(const char* names, const Values&... values) {
  std::string text;
  ((text += (text.empty() ? "" : ", ") + fmt::format("{}", values)), ...);
  return sizeof...(Values) == 0 ? text : fmt::format("{} = {}", names, text);
}

}  // namespace carillon::detail

#define CHECK(condition, why, ...)                                                                                \
  do {                                                                                                            \
    if (!(condition)) [[unlikely]]                                                                                \
      ::carillon::detail::check_failed(__FILE__, __LINE__, #condition, why,                                       \
                                       ::carillon::detail::join_values(#__VA_ARGS__ __VA_OPT__(, ) __VA_ARGS__)); \
  } while (false)
