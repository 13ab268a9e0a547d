// Exceptions that are not ours (std::filesystem, streams, memory, and libraries whose folders register here) as Errors
// with an exit code, a place and a remedy. One place, so that nothing a person or a machine does ends in code 70.
#pragma once

#include <exception>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/error.h"

namespace carillon {

// Called while an exception is handled: that exception as an Error. Error itself passes unchanged; what nobody knows is
// code 70.
//   memory that cannot be had, sizes beyond every container   74
//   std::filesystem: a name that leads nowhere 66, anything else 74
//   other system errors (a stream, a thread)                  74
//   a number in text beyond its type                          65
Error error_in_flight();

// A library's exceptions: `translate` answers for those it knows. `place` is what was being read ("" unknown). Called
// once a library, at the program's start.
using ForeignTranslator = std::optional<Error> (*)(const std::exception& exception, const std::string& place);
void register_foreign_exceptions(ForeignTranslator translate);

// What this thread is at work on, for messages about exceptions that carry no place of their own: the innermost one
// that an exception passes through is named. Two stores where nothing is thrown.
class WorkingOn {
 public:
  explicit WorkingOn(std::string_view place);
  ~WorkingOn();
  WorkingOn(const WorkingOn&) = delete;

 private:
  std::string_view place_;  // must outlive this
  int exceptions_;
};

}  // namespace carillon
