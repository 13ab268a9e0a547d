// What Carillon throws. A failure anywhere inside becomes one of two exceptions: `Error`, which a person can mend
// (wrong key, damaged file, full disk) and which carries the process's exit code, or `InternalError`, which is ours.
// Nothing below `launch` prints or exits; launch/main.cpp prints the one line and takes every rank with it.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "runtime/text.h"

namespace carillon {

// The exit codes of the interface (launch/README.md, "Exit codes"); the numbers follow sysexits.h where it has one.
enum class ExitCode : int {
  kDone = 0,
  kUsage = 64,         // usage or configuration
  kBadInput = 65,      // bad or corrupt input; no valid checkpoint among those present
  kMissingInput = 66,  // input missing
  kInternal = 70,      // broken internal invariant, collective mismatch
  kCannotCreate = 73,  // output cannot be created
  kInputOutput = 74,   // input/output error, worth a retry
  kLostPeer = 75,      // hang or lost peer, worth a retry
  kNumeric = 76,       // loss or gradients stayed non-finite
  kStopped = 85,       // stopped by a signal after a complete checkpoint
};

// One line for a person: WHAT happened, WHERE (file:line:column, or file and tensor), WHAT TO DO.
// Lines after the first newline are details and are printed below the error line.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// A broken invariant of the program itself; exit code 70.
class InternalError : public Error {
 public:
  explicit InternalError(const std::string& message) : Error(ExitCode::kInternal, message) {}
};

namespace detail {
// What an argument of fail() is shown as: text made printable, everything else as it is.
template <class T>
decltype(auto) shown(const T& value) {
  if constexpr (std::is_convertible_v<const T&, std::string_view>)
    return printable(std::string_view(value));
  else
    return (value);
}
}  // namespace detail

// fail(ExitCode::kBadInput, "{} holds {} bytes, in {}, import the model again", ...): throws Error. Texts among the
// arguments may be foreign (names, paths, keys from files): their line breaks and controls are shown, never sent, so
// that no name forges a second line. Line breaks that are meant stand in `format`.
template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::vformat(format, fmt::make_format_args(detail::shown(args)...)));
}

}  // namespace carillon
