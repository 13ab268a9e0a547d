#include "data/tokenizer/regular_expression.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "runtime/check.h"

namespace carillon {
namespace {

// About a second of backtracking at one position; the patterns in use need a few steps a character.
constexpr uint32_t kMatchLimit = 50'000'000;
constexpr size_t kStackBytes = size_t{64} << 20;

constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}";

[[noreturn]] void refuse(std::string_view what, std::string_view pattern, const std::string& where) {
  fail(ExitCode::kBadInput, "{} in the pattern '{}', {}, Carillon cannot run this tokenizer", what, pattern, where);
}

// Oniguruma's dialect in PCRE2's words.
std::string translate(std::string_view pattern, const std::string& where) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const char next = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (c == '\\') {
      ++i;
      if (next == 's' || next == 'S') {
        out += next == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
      } else if (next == 'w' || next == 'W') {
        if (in_class && next == 'W') refuse("\\W inside a class", pattern, where);
        out += in_class ? std::string(kWord) : fmt::format("[{}{}]", next == 'W' ? "^" : "", kWord);
      } else if (next == 'h' || next == 'H') {
        refuse("\\h", pattern, where);
      } else {
        out += c;
        if (next != '\0') out += next;
        // \p{L}, \x{200C}: the braces belong to the escape, they are no interval.
        if ((next == 'p' || next == 'P' || next == 'x') && i + 1 < pattern.size() && pattern[i + 1] == '{') {
          const size_t end = std::min(pattern.find('}', i), pattern.size() - 1);
          out += pattern.substr(i + 1, end - i);
          i = end;
        }
      }
      continue;
    }
    if (in_class) {
      if (c == '[' && next != ':') refuse("a class inside a class", pattern, where);
      if (c == '&' && next == '&') refuse("a class intersection", pattern, where);
      if (c == '[') {  // [:alpha:]
        const size_t end = pattern.find(":]", i);
        if (end == std::string_view::npos) refuse("an unfinished class", pattern, where);
        out += pattern.substr(i, end + 2 - i);
        i = end + 1;
        continue;
      }
      if (c == ']') in_class = false;
    } else if (c == '[') {
      in_class = true;
      out += c;
      if (next == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') out += "\\]", ++i;  // a leading ] is a member
      continue;
    } else if (c == '}' && next == '+') {
      refuse("an interval followed by +, which engines read differently,", pattern, where);
    }
    out += c;
  }
  return out;
}

// What a match needs beside the pattern; one a thread, for all patterns (only the whole match's bounds are asked for).
struct Workspace {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(size_t{32} << 10, kStackBytes, nullptr);

  Workspace() {
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kStackBytes >> 10);
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Workspace() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
};

std::string message_of(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct RegularExpression::Code {
  pcre2_code* code = nullptr;
  std::string pattern;
  ~Code() { pcre2_code_free(code); }
};

RegularExpression::RegularExpression(std::string_view pattern, std::string where)
    : code_(std::make_unique<Code>()), where_(std::move(where)) {
  constexpr size_t kLongest = 1 << 16;  // pattern bytes; the longest in use has 600
  if (pattern.size() > kLongest)
    fail(ExitCode::kBadInput, "a pattern of {} bytes, {}, the file is damaged", pattern.size(), where_);
  code_->pattern = pattern;
  const std::string translated = translate(pattern, where_);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // MULTILINE: ^ and $ match at lines in the dialect of the files.
  code_->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (code_->code == nullptr)
    fail(ExitCode::kBadInput, "the pattern '{}' does not compile ({} at {}), {}, mend the file", translated,
         message_of(error), offset, where_);
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // where it is not available the interpreter gives the same
}

RegularExpression::~RegularExpression() = default;
RegularExpression::RegularExpression(RegularExpression&&) noexcept = default;
RegularExpression& RegularExpression::operator=(RegularExpression&&) noexcept = default;

bool RegularExpression::find(std::string_view text, size_t from, Match& match) const {
  thread_local Workspace workspace;
  const int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                PCRE2_NO_UTF_CHECK, workspace.data, workspace.context);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0)
    fail(ExitCode::kBadInput, "the pattern '{}' was stopped ({}) at byte {} of a text, {}, simplify it or the text",
         code_->pattern, message_of(found), from, where_);
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(workspace.data);
  match = {bounds[0], bounds[1]};
  return true;
}

}  // namespace carillon
