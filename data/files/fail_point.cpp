#include "data/files/fail_point.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>

#include "runtime/error.h"

namespace carillon {

void fail_point(const char* name, int rank) {
  const char* wanted = std::getenv("CARILLON_TEST_FAIL");
  if (wanted == nullptr) return;
  const std::string text = wanted;
  const size_t colon = text.find(':');
  if (text.substr(0, colon) != name) return;
  const std::string rest = colon == std::string::npos ? "" : text.substr(colon + 1);
  if (std::atoi(rest.c_str()) != rank) return;
  if (rest.ends_with("io")) fail(ExitCode::kInputOutput, "made to fail, at {}, unset CARILLON_TEST_FAIL", name);
  if (rest.ends_with("slow"))
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  else
    std::raise(SIGKILL);
}

}  // namespace carillon
