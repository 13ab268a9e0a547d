// Translates exceptions that Carillon does not throw itself (std::filesystem, streams, memory, and libraries whose
// folders register here) into Errors with an exit code, a place and a remedy, so that faults of the user or of the
// machine never end in code 70.
#pragma once

#include <exception>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/error.h"

namespace carillon {

// Returns the exception being handled as an Error; call it inside a catch block. An Error is returned unchanged;
// unknown exceptions get code 70.
//   out of memory, a size beyond a container's limit          74
//   std::filesystem: a path that does not exist 66, all else  74
//   other system errors (a stream, a thread)                  74
//   a number in text out of its type's range                  65
Error error_in_flight();

// Translates the exceptions of a library; returns nothing for those it does not know. `place` is what was being read
// ("": unknown). Register once per library, at the program's start.
using ForeignTranslator = std::optional<Error> (*)(const std::exception& exception, const std::string& place);
void register_foreign_exceptions(ForeignTranslator translate);

// Declares what this thread is working on, for exceptions that carry no place: error_in_flight() names the innermost
// WorkingOn that the exception passed through. Costs two stores if nothing is thrown.
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
