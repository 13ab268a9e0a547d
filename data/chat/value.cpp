#include "data/chat/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "data/chat/text.h"

namespace carillon::jinja {

namespace {
// How deep values may be nested where they are compared or printed.
constexpr int kDeepest = 400;

void check_depth(int depth) {
  if (depth > kDeepest) throw TemplateError(TemplateError::Reason::kLimit, "values are nested too deeply");
}

// -1, 0, 1; 2 when one is no number.
int compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_integer() < b.as_integer() ? -1 : a.as_integer() > b.as_integer();
  // 64 bits of significand hold every int64 and every double.
  const long double x = a.is(Kind::kFloat) ? static_cast<long double>(a.number) : a.as_integer();
  const long double y = b.is(Kind::kFloat) ? static_cast<long double>(b.number) : b.as_integer();
  return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}
}  // namespace

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

bool same(const Value& a, const Value& b) {
  if (a.kind != b.kind) return a.is_undefined() && b.is_undefined() && a.object == b.object;
  if (a.is(Kind::kNone)) return true;
  if (a.is(Kind::kBool)) return a.boolean == b.boolean;
  if (a.is(Kind::kInteger)) return a.integer == b.integer;
  if (a.is(Kind::kFloat)) return a.number == b.number;
  if (a.is_string()) return a.object == b.object || a.text() == b.text();  // CPython shares equal constants
  return a.object == b.object;
}

bool equal(Heap& heap, const Value& a, const Value& b, int depth) {
  check_depth(depth);
  heap.charge();
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == 0;
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Kind::kNone:
      return true;
    case Kind::kBigInteger:
    case Kind::kString:
      heap.charge(std::min(a.text().size(), b.text().size()));
      return a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple: {
      const auto &x = a.items(), &y = b.items();
      if (x.size() != y.size()) return false;
      for (size_t i = 0; i < x.size(); ++i)
        if (!(x[i].object == y[i].object && x[i].kind == y[i].kind && x[i].kind > Kind::kFloat) &&
            !equal(heap, x[i], y[i], depth + 1))
          return false;
      return true;
    }
    case Kind::kDict: {
      if (a.dict().entries.size() != b.dict().entries.size()) return false;
      for (const auto& [key, value] : a.dict().entries) {
        heap.charge(key.is_string() ? 0 : 16 * b.dict().entries.size());
        const Value* other = b.dict().find(key);
        if (other == nullptr || !equal(heap, value, *other, depth + 1)) return false;
      }
      return true;
    }
    case Kind::kRange: {
      const auto &x = *static_cast<const Range*>(a.object), &y = *static_cast<const Range*>(b.object);
      const int64_t n = x.length();
      return n == y.length() && (n == 0 || (x.start == y.start && (n == 1 || x.step == y.step)));
    }
    default:
      return a.object == b.object;
  }
}

namespace {
// -1, 0, 1, or 2 where nothing holds (not a number).
int order(Heap& heap, const Value& a, const Value& b, const char* sign, int depth) {
  check_depth(depth);
  heap.charge();
  if (a.is_undefined()) raise_undefined(a);
  if (b.is_undefined()) raise_undefined(b);
  if (a.is_number() && b.is_number()) return compare_numbers(a, b);
  if (a.is_string() && b.is_string()) {
    heap.charge(std::min(a.text().size(), b.text().size()));
    const int sense = a.text().compare(b.text());  // UTF-8 sorts as its code points do
    return sense < 0 ? -1 : sense > 0;
  }
  if (a.kind == b.kind && a.is_sequence()) {
    const auto &x = a.items(), &y = b.items();
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i)
      if (!equal(heap, x[i], y[i], depth + 1)) return order(heap, x[i], y[i], sign, depth + 1);
    return x.size() < y.size() ? -1 : x.size() > y.size();
  }
  raise(std::string("'") + sign + "' not supported between instances of '" + type_name(a) + "' and '" + type_name(b) +
        "'");
}
}  // namespace

bool less(Heap& heap, const Value& a, const Value& b, const char* sign, int depth) {
  return order(heap, a, b, sign, depth) == -1;
}
bool less_or_equal(Heap& heap, const Value& a, const Value& b, const char* sign) {
  return order(heap, a, b, sign, 0) <= 0;
}

void check_hashable(const Value& value) {
  if (value.is(Kind::kList) || value.is(Kind::kDict)) raise(std::string("unhashable type: '") + type_name(value) + "'");
  if (value.is(Kind::kTuple))
    for (const Value& item : value.items()) check_hashable(item);
}

// The shortest digits that read back as the same number, written as Python's repr writes them.
std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string_view written(buffer, static_cast<size_t>(end - buffer));
  std::string sign;
  if (written.starts_with('-')) {
    sign = "-";
    written.remove_prefix(1);
  }
  const size_t e = written.find('e');
  const int exponent = std::atoi(std::string(written.substr(e + 1)).c_str());
  std::string digits(1, written[0]);
  if (e > 1) digits += written.substr(2, e - 2);
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    std::string text = sign + digits[0];
    if (count > 1) text += "." + digits.substr(1);
    const int size = std::abs(exponent);
    return text + (exponent < 0 ? "e-" : "e+") + (size < 10 ? "0" : "") + std::to_string(size);
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1) return sign + digits + std::string(static_cast<size_t>(exponent + 1 - count), '0') + ".0";
  return sign + digits.substr(0, static_cast<size_t>(exponent) + 1) + "." +
         digits.substr(static_cast<size_t>(exponent) + 1);
}

std::string string_representation(std::string_view text) {
  const bool single = text.find('\'') != std::string_view::npos, twice = text.find('"') != std::string_view::npos;
  const char quote = single && !twice ? '"' : '\'';
  std::string result(1, quote);
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    const int32_t code = next_character(text, at);
    char escape[16];
    if (code == quote || code == '\\') {
      result += '\\';
      result += static_cast<char>(code);
    } else if (code == '\n') {
      result += "\\n";
    } else if (code == '\r') {
      result += "\\r";
    } else if (code == '\t') {
      result += "\\t";
    } else if (is_printable(code)) {
      result += text.substr(from, at - from);
    } else {
      std::snprintf(escape, sizeof escape,
                    code < 0x100     ? "\\x%02x"
                    : code < 0x10000 ? "\\u%04x"
                                     : "\\U%08x",
                    static_cast<unsigned>(code));
      result += escape;
    }
  }
  return result + quote;
}

std::string to_text(Heap& heap, const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return "";
  return representation(heap, value);
}

std::string representation(Heap& heap, const Value& value, int depth) {
  check_depth(depth);
  const auto join = [&](const auto& list, const char* open, const char* close) {
    std::string text = open;
    for (size_t i = 0; i < list.size(); ++i) {
      if (i > 0) text += ", ";
      text += representation(heap, list[i], depth + 1);
    }
    return text + close;
  };
  const auto pairs = [&](const auto& entries) {
    std::string text = "{";
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) text += ", ";
      if constexpr (std::is_same_v<std::decay_t<decltype(entries[i].first)>, std::string>)
        text += string_representation(entries[i].first);
      else
        text += representation(heap, entries[i].first, depth + 1);
      text += ": " + representation(heap, entries[i].second, depth + 1);
    }
    return text + "}";
  };
  std::string text;
  switch (value.kind) {
    case Kind::kMissing:
    case Kind::kUndefined:
      text = "Undefined";
      break;
    case Kind::kNone:
      text = "None";
      break;
    case Kind::kBool:
      text = value.boolean ? "True" : "False";
      break;
    case Kind::kInteger:
      text = std::to_string(value.integer);
      break;
    case Kind::kBigInteger:
      text = value.text();
      break;
    case Kind::kFloat:
      text = float_text(value.number);
      break;
    case Kind::kString:
      text = string_representation(value.text());
      if (value.string().markup) text = "Markup(" + text + ")";
      break;
    case Kind::kList:
      text = join(value.items(), "[", "]");
      break;
    case Kind::kTuple:
      text = join(value.items(), "(", value.items().size() == 1 ? ",)" : ")");
      break;
    case Kind::kDict:
      text = pairs(value.dict().entries);
      break;
    case Kind::kDictView:
      text = std::string(type_name(value)) + "(" + join(to_vector(heap, value), "[", "]") + ")";
      break;
    case Kind::kRange: {
      const auto& range = *static_cast<const Range*>(value.object);
      text = "range(" + std::to_string(range.start) + ", " + std::to_string(range.stop) +
             (range.step == 1 ? "" : ", " + std::to_string(range.step)) + ")";
      break;
    }
    case Kind::kNamespace:
      text = "<Namespace " + pairs(static_cast<const Namespace*>(value.object)->attributes) + ">";
      break;
    default:
      raise(std::string("a ") + type_name(value) +
            " is printed, whose text differs from run to run (is a call or `| list` missing?)");
  }
  heap.charge(text.size());
  return text;
}

bool is_iterable(const Value& value) {
  switch (value.kind) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kDictView:
    case Kind::kRange:
    case Kind::kIterator:
      return true;
    default:
      return false;
  }
}

int iterator_depth(const Value& value) {
  return value.is(Kind::kIterator) ? static_cast<const Iterator*>(value.object)->depth : 0;
}

Next iterate(Heap& heap, const Value& value) {
  switch (value.kind) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return [](Value&) { return false; };
    case Kind::kString:
      return [&heap, value, at = size_t{0}](Value& item) mutable {
        const std::string& text = value.text();
        if (at >= text.size()) return false;
        const size_t from = at;
        next_character(text, at);
        item = heap.string(text.substr(from, at - from));
        return true;
      };
    case Kind::kList:
    case Kind::kTuple:
      return [&heap, value, at = size_t{0}](Value& item) mutable {
        if (at >= value.items().size()) return false;
        heap.charge();
        item = value.items()[at++];
        return true;
      };
    case Kind::kDict:
    case Kind::kDictView: {
      const Dict* dict = value.is(Kind::kDict) ? &value.dict() : static_cast<const DictView*>(value.object)->dict;
      const auto part =
          value.is(Kind::kDict) ? DictView::Part::kKeys : static_cast<const DictView*>(value.object)->part;
      return [&heap, dict, part, at = size_t{0}](Value& item) mutable {
        if (at >= dict->entries.size()) return false;
        heap.charge();
        const auto& [key, entry] = dict->entries[at++];
        item = part == DictView::Part::kKeys ? key : part == DictView::Part::kValues ? entry : heap.tuple({key, entry});
        return true;
      };
    }
    case Kind::kRange: {
      const Range& range = *static_cast<const Range*>(value.object);
      return [&heap, range, at = int64_t{0}, count = range.length()](Value& item) mutable {
        if (at >= count) return false;
        heap.charge();
        item = Value::from(range.start + at++ * range.step);
        return true;
      };
    }
    case Kind::kIterator:
      return [value](Value& item) { return static_cast<Iterator*>(value.object)->next(item); };
    default:
      raise(std::string("'") + type_name(value) + "' object is not iterable");
  }
}

std::vector<Value> to_vector(Heap& heap, const Value& value) {
  if (value.is_sequence()) {
    heap.charge(value.items().size() * sizeof(Value));
    return value.items();
  }
  std::vector<Value> items;
  const Next next = iterate(heap, value);
  for (Value item; next(item);) {
    heap.charge(sizeof(Value));
    items.push_back(item);
  }
  return items;
}

std::optional<int64_t> length(Heap&, const Value& value) {
  switch (value.kind) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return value.string().length;
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<int64_t>(value.items().size());
    case Kind::kDict:
      return static_cast<int64_t>(value.dict().entries.size());
    case Kind::kDictView:
      return static_cast<int64_t>(static_cast<const DictView*>(value.object)->dict->entries.size());
    case Kind::kRange:
      return static_cast<const Range*>(value.object)->length();
    default:
      return std::nullopt;
  }
}

}  // namespace carillon::jinja
