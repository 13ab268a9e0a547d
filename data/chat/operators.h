// Python's operators on template values.
#pragma once

#include <string>

#include "data/chat/value.h"

namespace carillon::jinja {

Value binary(Heap& heap, const std::string& sign, const Value& left, const Value& right);  // + - * / // % **
Value unary(const std::string& sign, const Value& value);
bool contains(Heap& heap, const Value& container, const Value& item);  // item in container
// The comparison `sign`: == != < <= > >= in, not in.
bool compare(Heap& heap, const std::string& sign, const Value& left, const Value& right);

}  // namespace carillon::jinja
