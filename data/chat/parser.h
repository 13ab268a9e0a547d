// Tokens to a tree, by the grammar of jinja2's parser (precedences included: `-2 ** 2` is 4, a filter binds closer than
// any operator, `a is b is c` is refused). Tags: if, for, set, macro, call, filter, with, block, print, break,
// continue, generation, raw. What would read other files (include, import, from, extends) is refused by name, as is any
// tag that is not known.
#pragma once

#include <memory>
#include <string_view>

#include "data/chat/syntax.h"

namespace carillon::jinja {

// Constants lie in `heap`, which must live as long as the tree. TemplateError of kSyntax, or of kUnknownName for a
// filter or test that does not exist where it would certainly be needed (as jinja2: not below an `if`).
std::unique_ptr<SyntaxTree> parse(std::string_view source, Heap& heap);

}  // namespace carillon::jinja
