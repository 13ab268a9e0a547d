// Resolves names to variables. As in jinja2, this happens before anything is rendered. The variables of a scope are
// those that its own statements mention, each with its initial value when the scope is entered (the value in the
// surrounding scope, one of the template's variables, or none yet). A variable that is set inside a loop, macro, block,
// call, filter, with or set block is therefore gone after it, and each iteration of a loop begins a new scope. `if`
// makes no scope, and a macro sees the current values of the variables around it. Follows jinja2's idtracking even in
// its corner cases: a name that a scope sets and only reads afterwards has no value before, even if the template was
// given a variable of this name.
#pragma once

#include "data/chat/syntax.h"

namespace carillon::jinja {

// Fills in every `place`, `scopes` and slot of the tree. Also refuses filters and tests that do not exist
// (TemplateError of kUnknownName), except under a condition within their scope, where they only fail when they are
// evaluated.
void resolve_names(SyntaxTree& tree);

}  // namespace carillon::jinja
