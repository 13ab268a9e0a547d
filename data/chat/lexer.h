// Splits a template into tokens like jinja2's lexer with trim_blocks and lstrip_blocks: the newline after a block tag
// is removed, and so is white space before a block tag that begins a line; `-` and `+` at a delimiter override this.
// Every kind of newline counts as "\n"; one at the very end of the template is dropped.
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

// Throws TemplateError of kSyntax with line and column if the text is not a template.
std::vector<Token> tokenize(std::string_view source);

}  // namespace carillon::jinja
