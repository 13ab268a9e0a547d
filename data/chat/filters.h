// jinja2's filters and tests, and `tojson` as in transformers. Missing are `random`, which would render a row
// differently each time, and `pprint`, `urlize` and `wordwrap`, which no known chat template uses. They lead to the
// same error as any other unknown name.
#pragma once

#include <string>
#include <unordered_map>

#include "data/chat/evaluator.h"

namespace carillon::jinja {

bool is_filter(const std::string& name);
bool is_test(const std::string& name);
std::string unknown_filter(const std::string& name);  // the text of the error
std::string unknown_test(const std::string& name);

// Throw TemplateError: kUnknownName, or the filter's own errors.
Value apply_filter(Evaluator& evaluator, const std::string& name, const Value& value, Arguments& arguments);
bool apply_test(Evaluator& evaluator, const std::string& name, const Value& value, Arguments& arguments);

using Filter = Value (*)(Evaluator&, const Value&, Arguments&);
// Filters on texts and numbers (filters.cpp), and on sequences (sequence_filters.cpp).
const std::unordered_map<std::string, Filter>& text_filters();
const std::unordered_map<std::string, Filter>& sequence_filters();

// Looks up a path like "a.b.0" in an item, for the `attribute` parameter of filters.
Value look_up(Evaluator& evaluator, const Value& item, const Value& attribute);

}  // namespace carillon::jinja
