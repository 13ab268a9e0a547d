#include "data/tokenizer/regular_expression.h"

#include <oniguruma.h>

#include <mutex>

#include "data/tokenizer/onig_encoding.h"
#include "runtime/error.h"

namespace carillon {
namespace {

// Retries at one position, as set by the tokenizers library.
constexpr unsigned long kRetryLimit = 10'000'000;
// Entries of the engine's stack of about 40 bytes each: 600 MB, enough for a run of as many characters of one class.
constexpr unsigned kStackLimit = 15'000'000;

// Memory for matching any pattern, one per thread.
struct Workspace {
  OnigRegion* region = onig_region_new();
  OnigMatchParam* parameters = onig_new_match_param();

  Workspace() {
    onig_initialize_match_param(parameters);
    onig_set_retry_limit_in_match_of_match_param(parameters, kRetryLimit);
    onig_set_match_stack_limit_size_of_match_param(parameters, kStackLimit);
  }
  ~Workspace() {
    onig_region_free(region, 1);
    onig_free_match_param(parameters);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
};

const OnigUChar* bytes_of(std::string_view text) { return reinterpret_cast<const OnigUChar*>(text.data()); }

void refuse_grapheme_clusters(std::string_view pattern, const std::string& where) {
  for (size_t i = 0; i + 1 < pattern.size(); ++i) {
    if (pattern[i] != '\\') continue;
    ++i;
    if (pattern[i] == 'X' || pattern[i] == 'y' || pattern[i] == 'Y')
      fail(ExitCode::kBadInput, "\\{} goes by grapheme clusters in the pattern '{}', {}, Carillon cannot run it",
           pattern[i], pattern, where);
  }
}

}  // namespace

struct RegularExpression::Code {
  OnigRegex expression = nullptr;
  std::string pattern;
  ~Code() {
    if (expression != nullptr) onig_free(expression);
  }
};

RegularExpression::RegularExpression(std::string_view pattern, std::string where)
    : code_(std::make_unique<Code>()), where_(std::move(where)) {
  constexpr size_t kLongest = 1 << 16;  // bytes; the longest pattern in use has 600
  if (pattern.size() > kLongest)
    fail(ExitCode::kBadInput, "a pattern of {} bytes, {}, the file is damaged", pattern.size(), where_);
  refuse_grapheme_clusters(pattern, where_);
  code_->pattern = pattern;
  static std::mutex compiling;  // the library's compiler uses global variables
  const std::lock_guard lock(compiling);
  OnigErrorInfo details{};
  const int error = onig_new(&code_->expression, bytes_of(pattern), bytes_of(pattern) + pattern.size(),
                             ONIG_OPTION_NONE, onig_encoding(), ONIG_SYNTAX_DEFAULT, &details);
  if (error == ONIG_NORMAL) return;
  OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = onig_error_code_to_str(message, error, &details);
  fail(ExitCode::kBadInput, "the pattern '{}' does not compile ({}), {}, fix the file", pattern,
       std::string_view(reinterpret_cast<const char*>(message), static_cast<size_t>(length)), where_);
}

RegularExpression::~RegularExpression() = default;
RegularExpression::RegularExpression(RegularExpression&&) noexcept = default;
RegularExpression& RegularExpression::operator=(RegularExpression&&) noexcept = default;

std::string RegularExpression::escape(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (std::string_view("\\.+*?()|[]{}^$#&-~").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

bool RegularExpression::find(std::string_view text, size_t from, Match& match) const {
  thread_local Workspace workspace;
  const OnigUChar* begin = text.empty() ? reinterpret_cast<const OnigUChar*>("") : bytes_of(text);
  const OnigUChar* end = begin + text.size();
  const int found = onig_search_with_param(code_->expression, begin, end, begin + from, end, workspace.region,
                                           ONIG_OPTION_NONE, workspace.parameters);
  if (found == ONIG_MISMATCH) return false;
  if (found < 0) {
    OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
    const int length = onig_error_code_to_str(message, found);
    fail(ExitCode::kBadInput, "the pattern '{}' was stopped ({}) at byte {} of a text, {}, simplify it or the text",
         code_->pattern, std::string_view(reinterpret_cast<const char*>(message), static_cast<size_t>(length)), from,
         where_);
  }
  match = {static_cast<size_t>(workspace.region->beg[0]), static_cast<size_t>(workspace.region->end[0])};
  return true;
}

}  // namespace carillon
