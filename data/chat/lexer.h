// A template's text as tokens, cut as jinja2's lexer cuts it with trim_blocks and lstrip_blocks: the newline after a
// block's end goes, so does white space before a block that begins its line, and `-` and `+` at a delimiter overrule
// that. Every kind of newline counts as "\n"; one at the template's very end is dropped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/chat/syntax.h"

namespace carillon::jinja {

struct Token {
  enum class Kind {
    kData,
    kVariableBegin,
    kVariableEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kString,    // text: unescaped
    kInteger,   // text: decimal digits
    kFloat,     // number
    kOperator,  // text
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;
  double number = 0;
  Position position;
};

// TemplateError of kSyntax with line and column for what is no template.
std::vector<Token> tokenize(std::string_view source);

}  // namespace carillon::jinja
