// A fuzz target: one parser of what strangers hand in, and what must hold whatever the bytes are.
//
//   const Target kTarget{"yaml", [](std::string_view bytes) { … }, [](const Seeds& seeds) { … }};
//
// A target returns for bytes that are taken and throws for those that are refused; run_target() lets a refusal pass
// when the program would end with 64, 65 or 66 and one printable line, and ends the process for everything else (exit
// code 70 or 74, a promise that does not hold). Sanitizers, time and memory are libFuzzer's part (run.sh).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace carillon::fuzz {

struct Target {
  std::string name;
  std::function<void(std::string_view bytes)> run;
  // Inputs to begin with, made from the repository's own test inputs (`source`: its root), so that none is kept twice.
  std::function<std::vector<std::string>(const std::string& source)> seeds;
};

// Of this program; each folder's parsers are a program of their own.
std::vector<Target> targets();

// Once before the first target: whose exceptions become which exit code.
void begin();
void run_target(const Target& target, std::string_view bytes);

// Says what does not hold and ends the process.
[[noreturn]] void broken(const std::string& what);
inline void hold(bool promise, const char* what) {
  if (!promise) broken(what);
}

// A folder of this process on the temporary file system, with one file written anew; returns the file's path.
std::string write_file(const std::string& name, std::string_view bytes);
std::string scratch_folder();

// The text of a file of the repository; all files below a folder whose name ends so.
std::string text_of(const std::string& path);
std::vector<std::string> texts_below(const std::string& folder, std::string_view ending);

// An input that stands for several texts: they are parted by lines of `kParting`. Missing ones are empty.
inline constexpr std::string_view kParting = "\n%%%%\n";
std::vector<std::string> parts_of(std::string_view bytes, size_t count);
std::string joined(const std::vector<std::string>& parts);

}  // namespace carillon::fuzz
