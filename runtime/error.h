// The exceptions that Carillon throws. Every failure becomes one of two: `Error` is something the user can fix (wrong
// key, damaged file, full disk) and carries the exit code of the process; `InternalError` is a bug in Carillon. No code
// below `launch` prints or exits; launch/main.cpp prints the error line and ends all ranks.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "runtime/text.h"

namespace carillon {

// The exit codes of the program (launch/README.md, "Exit codes"); the numbers follow sysexits.h if it defines one.
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

// The message is one line: WHAT happened, WHERE (file:line:column, or file and tensor), WHAT TO DO.
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
// How an argument of fail() appears in the message: text is made printable, everything else is passed through.
template <class T>
decltype(auto) shown(const T& value) {
  if constexpr (std::is_convertible_v<const T&, std::string_view>)
    return printable(std::string_view(value));
  else
    return (value);
}
}  // namespace detail

// fail(ExitCode::kBadInput, "{} holds {} bytes, in {}, import the model again", ...): throws Error. Text arguments may
// come from outside (names, paths and keys from files), so their line breaks and control characters are escaped and
// cannot forge a second line. Intended line breaks belong in `format`.
template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::vformat(format, fmt::make_format_args(detail::shown(args)...)));
}

}  // namespace carillon
