// JSON lines: files with one JSON object per line, used for data, results and metrics. Blank lines are skipped but
// counted. Errors name their place as "train.jsonl:17".
#pragma once

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/json_fields.h"

namespace carillon {

// Whether the line is empty or all white space.
bool is_blank(std::string_view line);

// Parses `text` as one JSON object. Throws error 65 with `place` and `remedy` if it is not JSON, incomplete, not UTF-8
// or not an object, or contains a number out of a double's range.
Json parse_json_object(std::string_view text, const std::string& place, std::string_view remedy);

class JsonLines {
 public:
  // What to do with a last line without a newline: read it like the others, or leave it out, for files that a program
  // appends to and whose writer died or is still writing.
  enum class LastLine { kRead, kMustEnd };

  // A file that cannot be opened has no lines; opened() is then false.
  JsonLines(const std::string& path, LastLine last, std::string remedy);
  bool opened() const { return opened_; }

  // Returns the next object; nothing at the end. Throws error 65 as above, 74 if reading fails.
  std::optional<Json> next();
  // About the object that next() returned last: its line, from 1; "path:line"; bytes of the file up to its end.
  int64_t line() const { return line_; }
  std::string place() const { return fmt::format("{}:{}", path_, line_); }
  int64_t end() const { return end_; }

 private:
  std::string path_;
  LastLine last_;
  std::string remedy_;
  std::ifstream file_;
  bool opened_;
  int64_t line_ = 0, end_ = 0;
  std::string text_;
};

}  // namespace carillon
