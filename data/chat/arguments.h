// Matches the arguments of a call to the parameters of a built-in function, as Python does.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "data/chat/value.h"

namespace carillon::jinja {

class Bound {
 public:
  // TypeError for too many, unknown or repeated arguments, or if one of the first `required` is missing.
  Bound(const Arguments& given, const std::string& function, std::initializer_list<const char*> names,
        size_t required = 0);

  bool has(size_t i) const { return !values_[i].is(Kind::kMissing); }
  const Value& operator[](size_t i) const { return values_[i]; }
  Value or_else(size_t i, Value other) const { return has(i) ? values_[i] : other; }
  // TypeError if the argument has another type.
  int64_t integer(size_t i, int64_t otherwise) const;
  const std::string& text(size_t i) const;
  bool flag(size_t i, bool otherwise) const { return has(i) ? truth(values_[i]) : otherwise; }

 private:
  std::string function_;
  std::vector<Value> values_;
};

}  // namespace carillon::jinja
