// Parses tokens into a tree by the grammar of jinja2's parser, including its precedences: `-2 ** 2` is 4, a filter
// binds more tightly than any operator, `a is b is c` is refused. Tags: if, for, set, macro, call, filter, with, block,
// print, break, continue, generation, raw. Tags that would read other files (include, import, from, extends) are
// refused by name, as are unknown tags.
#pragma once

#include <memory>
#include <string_view>

#include "data/chat/syntax.h"

namespace carillon::jinja {

// Constants are allocated in `heap`, which must outlive the tree. Throws TemplateError: kSyntax, or kUnknownName for a
// filter or test that does not exist and is certainly needed (in jinja2's sense: not below an `if`).
std::unique_ptr<SyntaxTree> parse(std::string_view source, Heap& heap);

}  // namespace carillon::jinja
