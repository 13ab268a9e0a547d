#include "data/chat/arguments.h"

#include <algorithm>

namespace carillon::jinja {

Bound::Bound(const Arguments& given, const std::string& function, std::initializer_list<const char*> names,
             size_t required)
    : function_(function), values_(names.size()) {
  if (given.positional.size() > names.size())
    raise(function + "() takes at most " + std::to_string(names.size()) + " arguments (" +
          std::to_string(given.positional.size()) + " given)");
  std::copy(given.positional.begin(), given.positional.end(), values_.begin());
  for (const auto& [name, value] : given.named) {
    const auto* const found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) raise(function + "() got an unexpected keyword argument '" + name + "'");
    Value& place = values_[static_cast<size_t>(found - names.begin())];
    if (!place.is(Kind::kMissing)) raise(function + "() got multiple values for argument '" + name + "'");
    place = value;
  }
  for (size_t i = 0; i < required; ++i)
    if (!has(i)) raise(function + "() is missing the argument '" + names.begin()[i] + "'");
}

int64_t Bound::integer(size_t i, int64_t otherwise) const {
  if (!has(i)) return otherwise;
  if (values_[i].is_undefined()) raise_undefined(values_[i]);
  if (!values_[i].is_integral())
    raise(function_ + "(): '" + type_name(values_[i]) + "' object cannot be interpreted as an integer");
  return values_[i].as_integer();
}

const std::string& Bound::text(size_t i) const {
  if (!values_[i].is_string())
    raise(function_ + "(): argument " + std::to_string(i + 1) + " must be str, not " + type_name(values_[i]));
  return values_[i].text();
}

}  // namespace carillon::jinja
