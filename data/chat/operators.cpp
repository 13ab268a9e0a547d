#include "data/chat/operators.h"

#include <cmath>

#include "data/chat/format.h"
#include "data/chat/text.h"

namespace carillon::jinja {
namespace {

[[noreturn]] void overflow() { raise("an integer beyond 64 bits"); }
[[noreturn]] void unsupported(const std::string& sign, const Value& left, const Value& right) {
  raise("unsupported operand type(s) for " + sign + ": '" + type_name(left) + "' and '" + type_name(right) + "'");
}

int64_t floor_divide(int64_t a, int64_t b) {
  if (b == 0) raise("integer division or modulo by zero");
  if (a == INT64_MIN && b == -1) overflow();
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}
int64_t modulo(int64_t a, int64_t b) {
  if (b == 0) raise("integer division or modulo by zero");
  if (b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
double modulo(double a, double b) {
  if (b == 0) raise("float modulo by zero");
  double rest = std::fmod(a, b);
  if (rest != 0 && (b < 0) != (rest < 0)) rest += b;
  return rest == 0 ? std::copysign(0.0, b) : rest;
}
double floor_divide(double a, double b) {
  if (b == 0) raise("float floor division by zero");
  const double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double down = std::floor(quotient);
  return quotient - down > 0.5 ? down + 1 : down;
}

Value power(const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral() && right.as_integer() >= 0) {
    int64_t result = 1, base = left.as_integer();
    for (int64_t exponent = right.as_integer(); exponent > 0; exponent >>= 1) {
      if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) overflow();
      if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) overflow();
    }
    return Value::from(result);
  }
  const double base = left.as_double(), exponent = right.as_double();
  if (base == 0 && exponent < 0) raise("0.0 cannot be raised to a negative power");
  if (base < 0 && std::isfinite(base) && exponent != std::floor(exponent)) raise("a power that is a complex number");
  const double result = std::pow(base, exponent);
  if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent)) raise("a power too large for a float");
  return Value::from(result);
}

Value integers(const std::string& sign, int64_t a, int64_t b) {
  int64_t result = 0;
  if (sign == "+"   ? __builtin_add_overflow(a, b, &result)
      : sign == "-" ? __builtin_sub_overflow(a, b, &result)
                    : __builtin_mul_overflow(a, b, &result))
    overflow();
  return Value::from(result);
}

Value numbers(const std::string& sign, const Value& left, const Value& right) {
  const bool whole = left.is_integral() && right.is_integral();
  if (sign == "**") return power(left, right);
  if (sign == "/") {
    if (right.as_double() == 0) raise("division by zero");
    // The quotient of integers is rounded once, even if one of them has more than 53 bits.
    if (whole)
      return Value::from(static_cast<double>(static_cast<long double>(left.as_integer()) / right.as_integer()));
    return Value::from(left.as_double() / right.as_double());
  }
  if (sign == "//")
    return whole ? Value::from(floor_divide(left.as_integer(), right.as_integer()))
                 : Value::from(floor_divide(left.as_double(), right.as_double()));
  if (sign == "%")
    return whole ? Value::from(modulo(left.as_integer(), right.as_integer()))
                 : Value::from(modulo(left.as_double(), right.as_double()));
  if (whole) return integers(sign, left.as_integer(), right.as_integer());
  const double a = left.as_double(), b = right.as_double();
  return Value::from(sign == "+" ? a + b : sign == "-" ? a - b : a * b);
}

Value repeated(Heap& heap, const Value& value, int64_t count) {
  count = std::max<int64_t>(count, 0);
  const size_t size = value.is_string() ? value.text().size() : value.items().size() * sizeof(Value);
  // Checked before anything is allocated, without overflow of the product.
  if (size > 0 && count > static_cast<int64_t>((size_t{1} << 40) / size))
    throw TemplateError(TemplateError::Reason::kLimit, "the template makes more text than is allowed");
  heap.charge(size * static_cast<size_t>(count));
  if (value.is_string()) {
    std::string text;
    text.reserve(size * static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) text += value.text();
    return heap.string(std::move(text), value.string().markup);
  }
  std::vector<Value> items;
  items.reserve(value.items().size() * static_cast<size_t>(count));
  for (int64_t i = 0; i < count && !value.items().empty(); ++i)
    items.insert(items.end(), value.items().begin(), value.items().end());
  return value.is(Kind::kList) ? heap.list(std::move(items)) : heap.tuple(std::move(items));
}

Value joined(Heap& heap, const Value& left, const Value& right) {
  if (left.is_string()) {
    heap.charge(left.text().size() + right.text().size());
    const bool markup = left.string().markup || right.string().markup;
    const auto text = [&](const Value& value) {
      return markup && !value.string().markup ? escape_html(value.text()) : value.text();
    };
    return heap.string(text(left) + text(right), markup);
  }
  heap.charge((left.items().size() + right.items().size()) * sizeof(Value));
  std::vector<Value> items = left.items();
  items.insert(items.end(), right.items().begin(), right.items().end());
  return left.is(Kind::kList) ? heap.list(std::move(items)) : heap.tuple(std::move(items));
}

}  // namespace

Value binary(Heap& heap, const std::string& sign, const Value& left, const Value& right) {
  if (sign == "%" && left.is_string()) return heap.string(format_percent(heap, left, right), left.string().markup);
  if (left.is_undefined()) raise_undefined(left);
  if (right.is_undefined()) raise_undefined(right);
  if (left.is_number() && right.is_number()) return numbers(sign, left, right);
  if (left.is(Kind::kBigInteger) || right.is(Kind::kBigInteger)) overflow();
  const auto repeatable = [](const Value& value) { return value.is_string() || value.is_sequence(); };
  if (sign == "+" && left.kind == right.kind && repeatable(left)) return joined(heap, left, right);
  if (sign == "*" && repeatable(left) && right.is_integral()) return repeated(heap, left, right.as_integer());
  if (sign == "*" && repeatable(right) && left.is_integral()) return repeated(heap, right, left.as_integer());
  unsupported(sign, left, right);
}

Value unary(const std::string& sign, const Value& value) {
  if (value.is_undefined()) raise_undefined(value);
  if (value.is_integral()) {
    if (sign == "+") return Value::from(value.as_integer());
    if (value.as_integer() == INT64_MIN) overflow();
    return Value::from(-value.as_integer());
  }
  if (value.is(Kind::kFloat)) return Value::from(sign == "+" ? value.number : -value.number);
  raise("bad operand type for unary " + sign + ": '" + type_name(value) + "'");
}

bool contains(Heap& heap, const Value& container, const Value& item) {
  switch (container.kind) {
    case Kind::kString:
      if (item.is_undefined() || !item.is_string())
        raise(std::string("'in <string>' requires string as left operand, not ") + type_name(item));
      heap.charge(container.text().size());
      return find_text(container.text(), item.text()) != std::string::npos;
    case Kind::kDict:
      heap.charge(item.is_string() ? 0 : 16 * container.dict().entries.size());
      return container.dict().find(item) != nullptr;
    case Kind::kRange: {
      if (!item.is_integral()) break;
      const auto& range = *static_cast<const Range*>(container.object);
      const int64_t value = item.as_integer();
      const bool inside =
          range.step > 0 ? value >= range.start && value < range.stop : value <= range.start && value > range.stop;
      return inside && (static_cast<__int128>(value) - range.start) % range.step == 0;
    }
    default:
      break;
  }
  if (!is_iterable(container) && !container.is(Kind::kLoop))
    raise(std::string("argument of type '") + type_name(container) + "' is not iterable");
  const Next next = iterate(heap, container);
  for (Value other; next(other);)
    if ((other.kind > Kind::kFloat && other.kind == item.kind && other.object == item.object) ||
        equal(heap, other, item))
      return true;
  return false;
}

bool compare(Heap& heap, const std::string& sign, const Value& left, const Value& right) {
  if (sign == "==") return equal(heap, left, right);
  if (sign == "!=") return !equal(heap, left, right);
  if (sign == "in") return contains(heap, right, left);
  if (sign == "not in") return !contains(heap, right, left);
  if (sign == "<") return less(heap, left, right, "<");
  if (sign == "<=") return less_or_equal(heap, left, right, "<=");
  if (sign == ">") return less(heap, right, left, ">");
  return less_or_equal(heap, right, left, ">=");
}

}  // namespace carillon::jinja
