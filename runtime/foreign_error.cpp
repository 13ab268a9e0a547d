#include "runtime/foreign_error.h"

#include <cerrno>
#include <filesystem>
#include <new>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace carillon {
namespace {

thread_local std::string failed_at;

std::vector<ForeignTranslator>& translators() {
  static std::vector<ForeignTranslator> all;
  return all;
}

bool leads_nowhere(const std::error_code& code) {
  for (const int number : {ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP})
    if (code == std::error_code(number, std::generic_category())) return true;
  return false;
}

Error of_path(const std::filesystem::filesystem_error& error) {
  const std::string path = printable(error.path1().string());
  return leads_nowhere(error.code())
             ? Error(ExitCode::kMissingInput, fmt::format("there is no such file or folder ({}), {}, correct the path",
                                                          error.code().message(), path))
             : Error(ExitCode::kInputOutput,
                     fmt::format("cannot be reached ({}), {}, check its permissions and the disk",
                                 error.code().message(), path));
}

Error out_of_memory(const std::string& place) {
  return Error(ExitCode::kInputOutput,
               fmt::format("out of memory, {}, use more ranks, shorter sequences or train.recompute=full",
                           place.empty() ? "on this machine" : place));
}

// std::stoi and similar functions throw with their own name as the message.
bool is_number_in_text(const std::exception& error) { return std::string_view(error.what()).starts_with("sto"); }

}  // namespace

void register_foreign_exceptions(ForeignTranslator translate) { translators().push_back(translate); }

Error error_in_flight() {
  const std::string place = std::move(failed_at);
  failed_at.clear();
  const std::string where = place.empty() ? "in the input" : place;
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return out_of_memory(place);
  } catch (const std::length_error&) {
    return out_of_memory(place);
  } catch (const std::filesystem::filesystem_error& error) {
    return of_path(error);
  } catch (const std::exception& error) {
    for (const ForeignTranslator translate : translators())
      if (const auto known = translate(error, place)) return *known;
    if (const auto* system = dynamic_cast<const std::system_error*>(&error))
      return Error(ExitCode::kInputOutput,
                   fmt::format("the system refuses ({}), {}, check the disk and its limits", printable(system->what()),
                               place.empty() ? "on this machine" : place));
    if (is_number_in_text(error))
      return Error(ExitCode::kBadInput, fmt::format("a number is beyond its type, {}, correct it", where));
    return Error(ExitCode::kInternal, fmt::format("{}, inside carillon{}, please report it", printable(error.what()),
                                                  place.empty() ? "" : " (" + place + ")"));
  } catch (...) {
    return Error(ExitCode::kInternal, "an unknown exception, inside carillon, please report it");
  }
}

WorkingOn::WorkingOn(std::string_view place) : place_(place), exceptions_(std::uncaught_exceptions()) {
  if (exceptions_ == 0) failed_at.clear();
}

WorkingOn::~WorkingOn() {
  if (std::uncaught_exceptions() <= exceptions_ || !failed_at.empty()) return;
  try {
    failed_at = printable(place_);
  } catch (...) {  // no memory for the place: the message omits it
  }
}

}  // namespace carillon
