// Runs every target on its initial inputs and on inputs that once broke it (regressions/TARGET/), without libFuzzer:
// the test of the normal build.
//   replay SOURCE                             all targets and inputs
//   replay SOURCE TARGET FILE                 one input
//   replay SOURCE TARGET SECONDS SEED OUTPUT  randomly changed inputs, without coverage or clang; a breaking input is
//                                             written to OUTPUT
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <random>

#include "tests/fuzz/target.h"

namespace carillon::fuzz {
namespace {

// Read by the signal handler.
std::string input;
const char* output = nullptr;

void leave_input(int signal) {
  const int file = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file >= 0 && write(file, input.data(), input.size()) >= 0) close(file);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

class Changes {
 public:
  Changes(std::vector<std::string> seeds, uint64_t seed) : seeds_(std::move(seeds)), random_(seed) {}

  std::string next() {
    std::string text = any();
    for (size_t count = below(5); count > 0; --count) change(text);
    return text;
  }

 private:
  size_t below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }
  const std::string& any() { return seeds_[below(seeds_.size())]; }

  void change(std::string& text) {
    static const std::vector<std::string> tokens = {"0",
                                                    "-1",
                                                    "9223372036854775807",
                                                    "18446744073709551616",
                                                    "1e999",
                                                    "-0.0",
                                                    "null",
                                                    "true",
                                                    "[",
                                                    "]",
                                                    "{",
                                                    "}",
                                                    "\"",
                                                    "\\",
                                                    ",",
                                                    ":",
                                                    "\n",
                                                    " ",
                                                    std::string("\0", 1),
                                                    "\xff",
                                                    "\xf0\x9f\x99\x82",
                                                    "\\ud800",
                                                    "(",
                                                    ")",
                                                    "*",
                                                    "{%",
                                                    "%}",
                                                    "{{",
                                                    "}}",
                                                    "- ",
                                                    "&a ",
                                                    "*a",
                                                    "!",
                                                    "<<",
                                                    "\x1b[2J",
                                                    "../",
                                                    "[[[[[[[[",
                                                    "{\"a\":{\"a\":",
                                                    "+",
                                                    "|",
                                                    "'",
                                                    "#"};
    const size_t at = below(text.size() + 1), length = 1 + below(below(3) == 0 ? 64 : 8);
    switch (below(6)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(random_());
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, tokens[below(tokens.size())]);
        break;
      case 3:
        text.insert(below(text.size() + 1), text.substr(at, length));
        break;
      case 4: {
        const std::string& other = any();
        text.insert(at, other.substr(below(other.size() + 1), length));
        break;
      }
      default:
        text.replace(std::min(at, text.size()), length, tokens[below(tokens.size())]);
    }
  }

  std::vector<std::string> seeds_;
  std::mt19937_64 random_;
};

int change_inputs(const Target& target, const std::string& source, char** arguments) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::seconds(std::atoi(arguments[0]));
  Changes changes(target.seeds(source), std::strtoull(arguments[1], nullptr, 10));
  output = arguments[2];
  for (const int signal : {SIGABRT, SIGSEGV, SIGFPE, SIGBUS, SIGILL, SIGALRM}) std::signal(signal, leave_input);
  int64_t runs = 0;
  for (; Clock::now() < end; ++runs) {
    input = changes.next();
    alarm(60);  // a longer run counts as a hang
    run_target(target, input);
  }
  std::cout << target.name << ": " << runs << " runs\n";
  return 0;
}

int replay(const std::string& source) {
  size_t inputs = 0;
  for (const Target& target : targets()) {
    const std::vector<std::string> seeds = target.seeds(source);
    if (seeds.empty()) broken(target.name + " has nothing to begin with");
    for (const std::string& seed : seeds) {
      run_target(target, seed);
      run_target(target, std::string_view(seed).substr(0, seed.size() / 2));
    }
    inputs += 2 * seeds.size();
    const std::string folder = source + "/tests/fuzz/regressions/" + target.name;
    if (!std::filesystem::is_directory(folder)) continue;
    for (const std::string& known : texts_below(folder, "")) {
      run_target(target, known);
      ++inputs;
    }
  }
  std::cout << inputs << " inputs\n";
  return 0;
}

}  // namespace
}  // namespace carillon::fuzz

int main(int count, char** arguments) {
  using namespace carillon::fuzz;
  if (count != 2 && count != 4 && count != 6) return 64;
  begin();
  if (count == 2) return replay(arguments[1]);
  for (const Target& target : targets()) {
    if (target.name != arguments[2]) continue;
    if (count == 6) return change_inputs(target, arguments[1], arguments + 3);
    run_target(target, text_of(arguments[3]));
    return 0;
  }
  std::cerr << "there is no target " << arguments[2] << "\n";
  return 64;
}
