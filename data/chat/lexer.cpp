#include "data/chat/lexer.h"

#include <algorithm>
#include <cstdlib>

#include "data/chat/text.h"

namespace carillon::jinja {
namespace {

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

// Matches [0-9]+ with single underscores in between; returns the offset after it, or `at`.
size_t digits(std::string_view text, size_t at, bool (*is)(char)) {
  if (at >= text.size() || !is(text[at])) return at;
  while (at < text.size() && (is(text[at]) || (text[at] == '_' && at + 1 < text.size() && is(text[at + 1])))) ++at;
  return at;
}

class Lexer {
 public:
  explicit Lexer(std::string_view given) {
    for (size_t i = 0; i < given.size(); ++i) {
      if (given[i] == '\r') {
        if (i + 1 < given.size() && given[i + 1] == '\n') ++i;
        source_ += '\n';
      } else {
        source_ += given[i];
      }
    }
    if (source_.ends_with('\n')) source_.pop_back();
  }

  std::vector<Token> run() {
    while (at_ < source_.size()) root();
    push(Token::Kind::kEnd, at_);
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& message, size_t at) {
    TemplateError error(TemplateError::Reason::kSyntax, message);
    error.line = position(at).line;
    error.column = position(at).column;
    throw error;
  }

  // Offsets mostly increase, so counting continues from the last one.
  Position position(size_t at) {
    if (at < counted_) {
      counted_ = 0;
      line_ = column_ = 1;
    }
    for (; counted_ < at; ++counted_) {
      const auto byte = static_cast<unsigned char>(source_[counted_]);
      if (byte == '\n') {
        ++line_;
        column_ = 1;
      } else {
        column_ += (byte & 0xC0) != 0x80;
      }
    }
    return {line_, column_};
  }

  Token& push(Token::Kind kind, size_t at, std::string text = {}) {
    return tokens_.emplace_back(Token{kind, std::move(text), 0, position(at)});
  }

  bool follows(std::string_view text, size_t at) const { return source_.compare(at, text.size(), text) == 0; }
  size_t skip_space(size_t at) const {
    while (at < source_.size()) {
      size_t next = at;
      if (!is_space(next_character(source_, next))) break;
      at = next;
    }
    return at;
  }

  // Adds the text before a delimiter; `sign` is the character after the delimiter.
  void data(size_t begin, size_t end, char sign, bool variable) {
    std::string_view text = std::string_view(source_).substr(begin, end - begin);
    if (sign == '-') {
      text = strip(text, Side::kRight);
    } else if (sign != '+' && !variable) {
      const size_t newline = text.rfind('\n');
      const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
      if ((line > 0 || line_starting_) && strip(text.substr(line), Side::kLeft).empty()) text = text.substr(0, line);
    }
    if (!text.empty()) push(Token::Kind::kData, begin, std::string(text));
  }

  // The end of a tag whose closing begins at `at`, or npos: "-%}" and the white space after it, "+%}", or "%}" and a
  // newline.
  size_t tag_end(std::string_view delimiter, size_t at, bool block) const {
    if (follows(delimiter, at)) {
      at += delimiter.size();
      return block && at < source_.size() && source_[at] == '\n' ? at + 1 : at;
    }
    if (at >= source_.size() || !follows(delimiter, at + 1)) return std::string::npos;
    if (source_[at] == '-') return skip_space(at + 1 + delimiter.size());
    return source_[at] == '+' && block ? at + 1 + delimiter.size() : std::string::npos;
  }

  void moved(size_t to) {
    line_starting_ = to > at_ ? source_[to - 1] == '\n' : line_starting_;
    at_ = to;
  }

  void root() {
    size_t tag = at_;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        push(Token::Kind::kData, at_, source_.substr(at_));
        at_ = source_.size();
        return;
      }
      if (source_[tag + 1] == '%' || source_[tag + 1] == '{' || source_[tag + 1] == '#') break;
    }
    const char kind = source_[tag + 1];
    size_t behind = tag + 2;
    const char sign =
        behind < source_.size() && (source_[behind] == '-' || source_[behind] == '+') ? source_[behind] : 0;
    if (sign != 0) ++behind;
    data(at_, tag, sign, kind == '{');
    if (kind == '%')
      if (const size_t body = raw_begin(behind); body != std::string::npos) return raw(tag, body);
    moved(behind);
    if (kind == '#') return comment(tag, behind);
    push(kind == '{' ? Token::Kind::kVariableBegin : Token::Kind::kBlockBegin, tag);
    inside(tag, kind == '{');
  }

  size_t raw_begin(size_t at) const {
    at = skip_space(at);
    if (!follows("raw", at)) return std::string::npos;
    at = skip_space(at + 3);
    if (follows("%}", at)) return at + 2;
    return follows("-%}", at) ? skip_space(at + 3) : std::string::npos;
  }

  void raw(size_t tag, size_t body) {
    at_ = body;
    line_starting_ = source_[body - 1] == '\n';
    for (size_t end = source_.find("{%", body); end != std::string::npos; end = source_.find("{%", end + 1)) {
      size_t at = end + 2;
      const char sign = at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : 0;
      at = skip_space(sign == 0 ? at : at + 1);
      if (!follows("endraw", at)) continue;
      const size_t behind = tag_end("%}", skip_space(at + 6), true);
      if (behind == std::string::npos) continue;
      data(body, end, sign, false);
      return moved(behind);
    }
    fail("Missing end of raw directive", tag);
  }

  void comment(size_t tag, size_t body) {
    const size_t end = source_.find("#}", body);
    if (end == std::string::npos) fail("Missing end of comment tag", tag);
    const bool signed_end = end > body && (source_[end - 1] == '-' || source_[end - 1] == '+');
    moved(tag_end("#}", signed_end ? end - 1 : end, true));
  }

  void inside(size_t tag, bool variable) {
    std::string open;
    for (;;) {
      if (open.empty()) {
        if (const size_t end = tag_end(variable ? "}}" : "%}", at_, !variable); end != std::string::npos) {
          push(variable ? Token::Kind::kVariableEnd : Token::Kind::kBlockEnd, at_);
          return moved(end);
        }
      }
      if (at_ >= source_.size()) fail(variable ? "'{{' is never closed" : "'{%' is never closed", tag);
      if (const size_t end = skip_space(at_); end > at_) {
        moved(end);
        continue;
      }
      if (number() || name() || string()) continue;
      sign(open);
    }
  }

  bool number() {
    const size_t from = at_;
    const std::string_view text = source_;
    if (!is_ascii_digit(text[from])) return false;
    const auto plain = [&](size_t to) {
      std::string kept(text.substr(from, to - from));
      std::erase(kept, '_');
      return kept;
    };
    // digits [. digits] [e [+-] digits] with at least one of the two parts, and not directly after a point.
    if (from == 0 || text[from - 1] != '.') {
      size_t end = digits(text, from, is_ascii_digit);
      bool is_float = false;
      if (end + 1 < text.size() && text[end] == '.' && is_ascii_digit(text[end + 1])) {
        end = digits(text, end + 1, is_ascii_digit);
        is_float = true;
      }
      if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
        const size_t after =
            end + 1 < text.size() && (text[end + 1] == '+' || text[end + 1] == '-') ? end + 2 : end + 1;
        if (const size_t to = digits(text, after, is_ascii_digit); to > after) {
          end = to;
          is_float = true;
        }
      }
      if (is_float) {
        push(Token::Kind::kFloat, from).number = std::strtod(plain(end).c_str(), nullptr);
        moved(end);
        return true;
      }
    }
    struct Base {
      char letter;
      int base;
      bool (*is)(char);
    };
    const Base bases[] = {
        {'b', 2, [](char c) { return c == '0' || c == '1'; }},
        {'o', 8, [](char c) { return c >= '0' && c <= '7'; }},
        {'x', 16, [](char c) { return is_ascii_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }}};
    size_t end = from + 1;
    for (const Base& base : bases) {
      if (text[from] != '0' || end >= text.size() || (text[end] | 0x20) != base.letter) continue;
      const size_t first = end + 1 < text.size() && text[end + 1] == '_' ? end + 2 : end + 1;
      const size_t to = digits(text, first, base.is);
      if (to == first) break;
      errno = 0;
      std::string kept(text.substr(first, to - first));
      std::erase(kept, '_');
      const uint64_t value = std::strtoull(kept.c_str(), nullptr, base.base);
      if (errno != 0 || value > INT64_MAX) fail("an integer beyond 64 bits", from);
      push(Token::Kind::kInteger, from, std::to_string(value));
      moved(to);
      return true;
    }
    if (text[from] == '0') {
      end = digits(text, from, [](char c) { return c == '0'; });
    } else {
      end = digits(text, from, is_ascii_digit);
    }
    push(Token::Kind::kInteger, from, plain(end));
    moved(end);
    return true;
  }

  bool name() {
    size_t end = at_;
    while (end < source_.size()) {
      size_t next = end;
      const int32_t code = next_character(source_, next);
      const bool further = code >= 0x80 && is_identifier("a" + source_.substr(end, next - end));
      if (!is_word_character(code) && !further) break;
      end = next;
    }
    if (end == at_) return false;
    const std::string text = source_.substr(at_, end - at_);
    if (!is_identifier(text)) fail("Invalid character in identifier", at_);
    push(Token::Kind::kName, at_, text);
    moved(end);
    return true;
  }

  bool string() {
    const char quote = source_[at_];
    if (quote != '\'' && quote != '"') return false;
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail("a string is never closed", at_);
    const size_t from = at_;
    push(Token::Kind::kString, from, unescape(from + 1, end));
    moved(end + 1);
    return true;
  }

  // Resolves escapes like Python's "unicode-escape": an unknown escape is kept, including the backslash.
  std::string unescape(size_t at, size_t end) {
    std::string result;
    while (at < end) {
      if (source_[at] != '\\') {
        result += source_[at++];
        continue;
      }
      const size_t from = at++;
      const char c = source_[at++];
      const auto simple = std::string_view("\\'\"abfnrtv").find(c);
      if (simple != std::string_view::npos) {
        result += "\\'\"\a\b\f\n\r\t\v"[simple];
      } else if (c == '\n') {
        // A continued line.
      } else if (c >= '0' && c <= '7') {
        int32_t code = c - '0';
        for (int i = 0; i < 2 && at < end && source_[at] >= '0' && source_[at] <= '7'; ++i)
          code = code * 8 + source_[at++] - '0';
        append_character(result, code);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        int64_t code = 0;
        for (size_t i = 0; i < count; ++i, ++at) {
          const char digit = at < end ? source_[at] : '\0';
          const char small = static_cast<char>(digit | 0x20);
          if (!is_ascii_digit(digit) && !(small >= 'a' && small <= 'f'))
            fail(std::string("a truncated \\") + c + " escape in a string", from);
          code = code * 16 + (is_ascii_digit(digit) ? digit - '0' : small - 'a' + 10);
        }
        if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) fail("an escape that is no character", from);
        append_character(result, static_cast<int32_t>(code));
      } else if (c == 'N') {
        fail("\\N{…} escapes are not supported: write the character", from);
      } else {
        result += '\\';
        // Python replaces non-ASCII characters by escapes before it resolves escapes. After a backslash, the letters of
        // that escape therefore remain.
        if (static_cast<unsigned char>(c) < 0x80) {
          result += c;
        } else {
          size_t next = at - 1;
          const int32_t code = next_character(source_, next);
          char escape[16];
          std::snprintf(escape, sizeof escape,
                        code < 0x100     ? "x%02x"
                        : code < 0x10000 ? "u%04x"
                                         : "U%08x",
                        static_cast<unsigned>(code));
          result += escape;
          at = next;
        }
      }
    }
    return result;
  }

  void sign(std::string& open) {
    static constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view text : kOperators) {
      if (!follows(text, at_)) continue;
      const char c = text[0];
      if (c == '{' || c == '(' || c == '[') open += c == '{' ? '}' : c == '(' ? ')' : ']';
      if (c == '}' || c == ')' || c == ']') {
        if (open.empty()) fail(std::string("unexpected '") + c + "'", at_);
        if (open.back() != c) fail(std::string("unexpected '") + c + "', expected '" + open.back() + "'", at_);
        open.pop_back();
      }
      push(Token::Kind::kOperator, at_, std::string(text));
      return moved(at_ + text.size());
    }
    size_t next = at_;
    next_character(source_, next);
    fail("unexpected char '" + source_.substr(at_, next - at_) + "'", at_);
  }

  std::string source_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  bool line_starting_ = true;
  size_t counted_ = 0;
  int line_ = 1, column_ = 1;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace carillon::jinja
