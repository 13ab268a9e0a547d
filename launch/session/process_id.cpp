#include "launch/session/process_id.h"

#include <unistd.h>

#include <fstream>
#include <iterator>
#include <sstream>

namespace carillon {

std::string host_name() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

std::string start_time(const std::string& pid) {
  // The number comes from a lock or claim that anybody may have written.
  if (pid.empty() || pid.find_first_not_of("0123456789") != std::string::npos) return "";
  std::ifstream file("/proc/" + pid + "/stat");
  std::string text(std::istreambuf_iterator<char>(file), {});
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos || name_end + 2 > text.size()) return "";
  std::istringstream fields(text.substr(name_end + 2));
  std::string field;
  for (int number = 3; number <= 22 && fields >> field; ++number)  // field 22 of /proc/PID/stat
    if (number == 3 && (field == "Z" || field == "X")) return "";  // dead but not yet reaped
  return field;
}

std::string this_process() {
  const std::string pid = std::to_string(getpid());
  return host_name() + " " + pid + " " + start_time(pid);
}

}  // namespace carillon
