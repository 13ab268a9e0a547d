// JSON lines: files of one JSON object a line, as data, results and metrics are kept. Blank lines hold nothing, but
// count. What is wrong is said with its place, "train.jsonl:17".
#pragma once

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/json_fields.h"

namespace carillon {

// Nothing but white space?
bool is_blank(std::string_view line);

// The object that `text` is. Error 65 with `place` and `remedy` for what is not JSON, not whole, not UTF-8, no object,
// or holds a number that is beyond a double.
Json parse_json_object(std::string_view text, const std::string& place, std::string_view remedy);

class JsonLines {
 public:
  // A last line without a newline: read like the others, or (of a file that a program appends to) left out, for its
  // writer died or is still writing.
  enum class LastLine { kRead, kMustEnd };

  // A file that cannot be opened has no lines: opened() tells.
  JsonLines(const std::string& path, LastLine last, std::string remedy);
  bool opened() const { return opened_; }

  // The next object; nothing at the end. Errors: 65 as above, 74 when reading fails.
  std::optional<Json> next();
  // Of the object that next() gave last: its line, from 1; "path:line"; the bytes of the file up to its end.
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
