// jinja2's filters and tests, `tojson` as transformers has it. Left out are `random`, which would render a row in
// another way each time, and `pprint`, `urlize` and `wordwrap`, which no chat template is known to use: named in an
// error as any other name that does not exist.
#pragma once

#include <string>
#include <unordered_map>

#include "data/chat/evaluator.h"

namespace carillon::jinja {

bool is_filter(const std::string& name);
bool is_test(const std::string& name);
std::string unknown_filter(const std::string& name);  // what an error says of it
std::string unknown_test(const std::string& name);

// TemplateErrors: of kUnknownName, or what the filter itself finds wrong.
Value apply_filter(Evaluator& evaluator, const std::string& name, const Value& value, Arguments& arguments);
bool apply_test(Evaluator& evaluator, const std::string& name, const Value& value, Arguments& arguments);

using Filter = Value (*)(Evaluator&, const Value&, Arguments&);
// By where they are defined: on texts and numbers (filters.cpp), on sequences (sequence_filters.cpp).
const std::unordered_map<std::string, Filter>& text_filters();
const std::unordered_map<std::string, Filter>& sequence_filters();

// Looks up "a.b.0" in an item, as the `attribute` of a filter.
Value look_up(Evaluator& evaluator, const Value& item, const Value& attribute);

}  // namespace carillon::jinja
