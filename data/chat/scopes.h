// Which variable a name means. jinja2 decides that before anything is rendered, and so does this: a scope's variables
// are those its own statements mention, each with what it is when the scope is entered (the surrounding scope's value,
// one of the template's variables, or nothing yet). What is set inside a loop, macro, block, call, filter, with or set
// block therefore ends with it (each turn of a loop begins a new one), `if` makes no scope, and a macro sees the
// present value of the variables around it. Follows jinja2's idtracking, its corners included: a name that a scope
// sets, and reads only after it, is nothing before, even where the template was given a variable of this name.
#pragma once

#include "data/chat/syntax.h"

namespace carillon::jinja {

// Fills in every `place`, `scopes` and slot of the tree. Also refuses filters and tests that do not exist
// (TemplateError of kUnknownName), unless they stand under a condition of their own scope: those fail when they are
// reached.
void resolve_names(SyntaxTree& tree);

}  // namespace carillon::jinja
