// A fuzz target: a parser of untrusted input, and the properties that must hold for any bytes.
//
//   const Target kTarget{"yaml", [](std::string_view bytes) { … }, [](const Seeds& seeds) { … }};
//
// A target returns if it accepts the bytes and throws if it refuses them. run_target() allows a refusal for which the
// program would exit with 64, 65 or 66 and a printable message. It aborts the process on anything else (exit code 70 or
// 74, a property that does not hold). Sanitizers and the limits of time and memory are those of libFuzzer (run.sh).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace carillon::fuzz {

struct Target {
  std::string name;
  std::function<void(std::string_view bytes)> run;
  // The initial inputs, made from the repository's test inputs (`source`: its root), so none is stored twice.
  std::function<std::vector<std::string>(const std::string& source)> seeds;
};

// The targets of this program; each program covers the parsers of certain folders.
std::vector<Target> targets();

// Called once before the first target: registers which foreign exceptions become which exit code.
void begin();
void run_target(const Target& target, std::string_view bytes);

// Prints which property does not hold and aborts the process.
[[noreturn]] void broken(const std::string& what);
inline void require(bool promise, const char* what) {
  if (!promise) broken(what);
}

// Writes a file, replacing an older one, in this process's temporary folder; returns its path. scratch_folder() returns
// the folder.
std::string write_file(const std::string& name, std::string_view bytes);
std::string scratch_folder();

// The text of one file, and of all files below a folder whose path ends with `ending`.
std::string text_of(const std::string& path);
std::vector<std::string> texts_below(const std::string& folder, std::string_view ending);

// Splits an input into `count` texts, which are separated by `kParting`; missing ones are empty. joined() is the
// inverse.
inline constexpr std::string_view kParting = "\n%%%%\n";
std::vector<std::string> parts_of(std::string_view bytes, size_t count);
std::string joined(const std::vector<std::string>& parts);

}  // namespace carillon::fuzz
