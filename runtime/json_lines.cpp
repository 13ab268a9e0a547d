#include "runtime/json_lines.h"

#include <filesystem>

#include "runtime/parse_json.h"

namespace carillon {

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r\n") == std::string_view::npos; }

Json parse_json_object(std::string_view text, const std::string& place, std::string_view remedy) {
  check_json_limits(text, place);
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::parse_error& error) {
    fail(ExitCode::kBadInput, "is not valid JSON (at byte {}), {}, {}", error.byte, place, remedy);
  } catch (const Json::out_of_range&) {
    fail(ExitCode::kBadInput, "holds a number beyond the range of a double, {}, {}", place, remedy);
  }
  if (!json.is_object()) fail(ExitCode::kBadInput, "is not a JSON object, {}, {}", place, remedy);
  return json;
}

JsonLines::JsonLines(const std::string& path, LastLine last, std::string remedy)
    : path_(path), last_(last), remedy_(std::move(remedy)) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  // Opening a pipe would wait for its other end.
  if (std::filesystem::is_fifo(status))
    fail(ExitCode::kBadInput, "is not a regular file, {}, remove it or name a file", path);
  if (!std::filesystem::is_directory(status)) file_.open(path, std::ios::binary);
  opened_ = file_.is_open();
}

std::optional<Json> JsonLines::next() {
  while (opened_ && std::getline(file_, text_)) {
    if (file_.eof() && last_ == LastLine::kMustEnd) return std::nullopt;
    ++line_;
    end_ += static_cast<int64_t>(text_.size()) + (file_.eof() ? 0 : 1);
    if (!is_blank(text_)) return parse_json_object(text_, place(), remedy_);
  }
  if (file_.bad()) fail(ExitCode::kInputOutput, "reading failed after line {}, {}, try again", line_, path_);
  return std::nullopt;
}

}  // namespace carillon
