#include "data/chat/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "data/chat/text.h"

namespace carillon::jinja {

void check_depth(int depth) {
  constexpr int kDeepest = 400;
  if (depth > kDeepest) throw TemplateError(TemplateError::Reason::kLimit, "values are nested too deeply");
}

void raise(const std::string& message) { throw TemplateError(TemplateError::Reason::kRuntime, message); }

Value Value::of(Kind kind, Object* object) {
  Value value;
  value.kind = kind;
  value.object = object;
  return value;
}
Value Value::from(bool given) {
  Value value;
  value.kind = Kind::kBool;
  value.boolean = given;
  return value;
}
Value Value::from(int64_t given) {
  Value value;
  value.kind = Kind::kInteger;
  value.integer = given;
  return value;
}
Value Value::from(double given) {
  Value value;
  value.kind = Kind::kFloat;
  value.number = given;
  return value;
}
const Text& Value::string() const { return *static_cast<const Text*>(object); }
const std::string& Value::text() const { return string().text; }
const std::vector<Value>& Value::items() const { return static_cast<const List*>(object)->items; }
const Dict& Value::dict() const { return *static_cast<const Dict*>(object); }

const Value* Dict::find(const std::string& key) const {
  const auto found = by_text.find(key);
  return found == by_text.end() ? nullptr : &entries[found->second].second;
}
const Value* Dict::find(const Value& key) const {
  if (key.is_string()) return find(key.text());
  check_hashable(key);
  Heap none;
  if (by_text.size() == entries.size()) return nullptr;
  for (const auto& [known, value] : entries)
    if (equal(none, known, key)) return &value;
  return nullptr;
}
void Dict::set(const Value& key, const Value& value) {
  if (const Value* known = find(key)) {
    *const_cast<Value*>(known) = value;
    return;
  }
  if (key.is_string()) by_text.emplace(key.text(), entries.size());
  entries.emplace_back(key, value);
}

int64_t Range::length() const {
  const __int128 first = start, last = stop, by = step;
  const __int128 count = by > 0 ? (last - first + by - 1) / by : (first - last - by - 1) / -by;
  return count <= 0 ? 0 : static_cast<int64_t>(std::min<__int128>(count, INT64_MAX));
}

Value* Namespace::find(const std::string& name) {
  for (auto& [known, value] : attributes)
    if (known == name) return &value;
  return nullptr;
}
void Namespace::set(const std::string& name, const Value& value) {
  if (name.starts_with('_')) raise("names in a namespace do not begin with an underscore: '" + name + "'");
  if (Value* known = find(name))
    *known = value;
  else
    attributes.emplace_back(name, value);
}

void Heap::charge(size_t bytes) {
  steps_ -= 1 + static_cast<int64_t>(bytes / 16);
  if (steps_ < 0) throw TemplateError(TemplateError::Reason::kLimit, "the template takes more steps than are allowed");
}
Value Heap::string(std::string text, bool markup) {
  charge(text.size());
  Text* object = make<Text>();
  object->length = code_points(text);
  object->text = std::move(text);
  object->markup = markup;
  return Value::of(Kind::kString, object);
}
Value Heap::undefined(std::string message) {
  auto* object = make<UndefinedObject>();
  object->message = std::move(message);
  return Value::of(Kind::kUndefined, object);
}
Value Heap::list(std::vector<Value> items) {
  charge(items.size() * sizeof(Value));
  List* object = make<List>();
  object->items = std::move(items);
  return Value::of(Kind::kList, object);
}
Value Heap::tuple(std::vector<Value> items) {
  Value value = list(std::move(items));
  value.kind = Kind::kTuple;
  return value;
}
Value Heap::function(std::string name, std::function<Value(Evaluator&, Arguments&)> call) {
  auto* object = make<Function>();
  object->name = std::move(name);
  object->call = std::move(call);
  return Value::of(Kind::kFunction, object);
}
Value Heap::iterator(Next next, int depth) {
  if (depth > 100) throw TemplateError(TemplateError::Reason::kLimit, "iterators are nested too deeply");
  auto* object = make<Iterator>();
  object->next = std::move(next);
  object->depth = depth;
  return Value::of(Kind::kIterator, object);
}

const char* type_name(const Value& value) {
  switch (value.kind) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInteger:
    case Kind::kBigInteger:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return value.string().markup ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kDictView: {
      const auto part = static_cast<const DictView*>(value.object)->part;
      return part == DictView::Part::kKeys     ? "dict_keys"
             : part == DictView::Part::kValues ? "dict_values"
                                               : "dict_items";
    }
    case Kind::kRange:
      return "range";
    case Kind::kIterator:
      return "generator";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kFunction:
      return "function";
    case Kind::kMacro:
      return "Macro";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kCycler:
      return "Cycler";
    case Kind::kJoiner:
      return "Joiner";
    case Kind::kDictClass:
      return "TemplateDict";
  }
  return "object";
}

void raise_undefined(const Value& value) {
  raise(value.object == nullptr ? std::string("a value is undefined")
                                : static_cast<const UndefinedObject*>(value.object)->message);
}

bool truth(const Value& value) {
  switch (value.kind) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return value.boolean;
    case Kind::kInteger:
      return value.integer != 0;
    case Kind::kFloat:
      return value.number != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !value.items().empty();
    case Kind::kDict:
      return !value.dict().entries.empty();
    case Kind::kDictView:
      return !static_cast<const DictView*>(value.object)->dict->entries.empty();
    case Kind::kRange:
      return static_cast<const Range*>(value.object)->length() > 0;
    default:
      return true;
  }
}

}  // namespace carillon::jinja
