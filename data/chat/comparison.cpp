// Python's ==, < and `is` on values, and which values are hashable.
#include "data/chat/text.h"
#include "data/chat/value.h"

namespace carillon::jinja {
namespace {

// -1, 0, 1; 2 if one is NaN.
int compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_integer() < b.as_integer() ? -1 : a.as_integer() > b.as_integer();
  // 64 bits of significand hold every int64 and every double.
  const long double x = a.is(Kind::kFloat) ? static_cast<long double>(a.number) : a.as_integer();
  const long double y = b.is(Kind::kFloat) ? static_cast<long double>(b.number) : b.as_integer();
  return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

}  // namespace

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
// -1, 0, 1, or 2 if the values are unordered (NaN).
int order(Heap& heap, const Value& a, const Value& b, const char* sign, int depth) {
  check_depth(depth);
  heap.charge();
  if (a.is_undefined()) raise_undefined(a);
  if (b.is_undefined()) raise_undefined(b);
  if (a.is_number() && b.is_number()) return compare_numbers(a, b);
  if (a.is_string() && b.is_string()) {
    heap.charge(std::min(a.text().size(), b.text().size()));
    const int sense = a.text().compare(b.text());  // UTF-8 sorts like its code points
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

}  // namespace carillon::jinja
