// Reads the tokens of a template one after another and throws errors that name an unexpected token and its place.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "data/chat/lexer.h"
#include "data/chat/syntax.h"

namespace carillon::jinja {

// How deeply expressions and statements may be nested; bounds the stack needed to walk the tree.
constexpr int kDeepestTree = 200;

inline bool one_of(std::string_view text, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

class TokenReader {
 protected:
  explicit TokenReader(std::string_view source) : tokens_(tokenize(source)) {}

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& take() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }
  bool is_name(std::string_view name) const { return now().kind == Token::Kind::kName && now().text == name; }
  bool is_sign(std::string_view sign) const { return now().kind == Token::Kind::kOperator && now().text == sign; }
  bool is(Token::Kind kind) const { return now().kind == kind; }
  bool skip_name(std::string_view name) { return is_name(name) ? (take(), true) : false; }
  bool skip_sign(std::string_view sign) { return is_sign(sign) ? (take(), true) : false; }

  [[noreturn]] void fail(const std::string& message, Position position,
                         TemplateError::Reason reason = TemplateError::Reason::kSyntax) const {
    TemplateError error(reason, message);
    error.line = position.line;
    error.column = position.column;
    throw error;
  }
  std::string described() const {
    switch (now().kind) {
      case Token::Kind::kEnd:
        return "end of template";
      case Token::Kind::kVariableEnd:
        return "end of print statement";
      case Token::Kind::kBlockEnd:
        return "end of statement block";
      case Token::Kind::kString:
        return "a string";
      default:
        return "'" + now().text + "'";
    }
  }
  void expect_sign(std::string_view sign) {
    if (!skip_sign(sign)) fail("expected '" + std::string(sign) + "', got " + described(), now().position);
  }
  void expect(Token::Kind kind, const char* what) {
    if (!is(kind)) fail(std::string("expected ") + what + ", got " + described(), now().position);
    take();
  }
  std::string expect_any_name() {
    if (!is(Token::Kind::kName)) fail("expected a name, got " + described(), now().position);
    return take().text;
  }

  // Counts the nesting of the parser's recursion.
  struct Nesting {
    explicit Nesting(TokenReader& of) : reader(of) {
      if (++reader.nesting_ > kDeepestTree) reader.fail("nested too deeply", reader.now().position);
    }
    ~Nesting() { --reader.nesting_; }
    TokenReader& reader;
  };

 private:
  const std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
};

}  // namespace carillon::jinja
