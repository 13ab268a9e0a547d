#include "data/chat/arguments.h"
#include "data/chat/filters.h"
#include "data/chat/operators.h"
#include "data/chat/text.h"

namespace carillon::jinja {
namespace {

using Test = bool (*)(Evaluator&, const Value&, const Value&);
struct Known {
  Test test;
  bool takes_argument;
};

bool remainder_is(Evaluator& evaluator, const Value& value, const Value& by, int64_t wanted) {
  return equal(evaluator.heap(), binary(evaluator.heap(), "%", value, by), Value::from(wanted));
}
template <int kSign>
bool ordered(Evaluator& evaluator, const Value& value, const Value& other) {
  static constexpr const char* kSigns[] = {"==", "!=", "<", "<=", ">", ">=", "in"};
  return compare(evaluator.heap(), kSigns[kSign], value, other);
}

const std::unordered_map<std::string, Known>& tests() {
  using E = Evaluator;
  using V = Value;
  static const std::unordered_map<std::string, Known> kTests = {
      {"odd", {[](E& e, const V& v, const V&) { return remainder_is(e, v, V::from(int64_t{2}), 1); }, false}},
      {"even", {[](E& e, const V& v, const V&) { return remainder_is(e, v, V::from(int64_t{2}), 0); }, false}},
      {"divisibleby", {[](E& e, const V& v, const V& by) { return remainder_is(e, v, by, 0); }, true}},
      {"defined", {[](E&, const V& v, const V&) { return !v.is_undefined(); }, false}},
      {"undefined", {[](E&, const V& v, const V&) { return v.is_undefined(); }, false}},
      {"filter",
       {[](E&, const V& v, const V&) {
          check_hashable(v);
          return v.is_string() && is_filter(v.text());
        },
        false}},
      {"test",
       {[](E&, const V& v, const V&) {
          check_hashable(v);
          return v.is_string() && is_test(v.text());
        },
        false}},
      {"none", {[](E&, const V& v, const V&) { return v.is(Kind::kNone); }, false}},
      {"boolean", {[](E&, const V& v, const V&) { return v.is(Kind::kBool); }, false}},
      {"false", {[](E&, const V& v, const V&) { return v.is(Kind::kBool) && !v.boolean; }, false}},
      {"true", {[](E&, const V& v, const V&) { return v.is(Kind::kBool) && v.boolean; }, false}},
      {"integer", {[](E&, const V& v, const V&) { return v.is(Kind::kInteger) || v.is(Kind::kBigInteger); }, false}},
      {"float", {[](E&, const V& v, const V&) { return v.is(Kind::kFloat); }, false}},
      {"lower", {[](E& e, const V& v, const V&) { return lower_text(to_text(e.heap(), v)); }, false}},
      {"upper", {[](E& e, const V& v, const V&) { return upper_text(to_text(e.heap(), v)); }, false}},
      {"string", {[](E&, const V& v, const V&) { return v.is_string(); }, false}},
      {"mapping", {[](E&, const V& v, const V&) { return v.is(Kind::kDict); }, false}},
      {"number", {[](E&, const V& v, const V&) { return v.is_number() || v.is(Kind::kBigInteger); }, false}},
      {"sequence",
       {[](E&, const V& v, const V&) {
          return v.is_undefined() || v.is_string() || v.is_sequence() || v.is(Kind::kDict) || v.is(Kind::kRange);
        },
        false}},
      {"iterable", {[](E&, const V& v, const V&) { return is_iterable(v) || v.is(Kind::kLoop); }, false}},
      {"callable",
       {[](E&, const V& v, const V&) {
          return v.is_undefined() || v.is(Kind::kFunction) || v.is(Kind::kMacro) || v.is(Kind::kLoop) ||
                 v.is(Kind::kJoiner) || v.is(Kind::kDictClass);
        },
        false}},
      {"sameas", {[](E&, const V& v, const V& other) { return same(v, other); }, true}},
      {"escaped", {[](E&, const V& v, const V&) { return v.is_string() && v.string().markup; }, false}},
      {"in", {ordered<6>, true}},
      {"==", {ordered<0>, true}},
      {"eq", {ordered<0>, true}},
      {"equalto", {ordered<0>, true}},
      {"!=", {ordered<1>, true}},
      {"ne", {ordered<1>, true}},
      {">", {ordered<4>, true}},
      {"gt", {ordered<4>, true}},
      {"greaterthan", {ordered<4>, true}},
      {"ge", {ordered<5>, true}},
      {">=", {ordered<5>, true}},
      {"<", {ordered<2>, true}},
      {"lt", {ordered<2>, true}},
      {"lessthan", {ordered<2>, true}},
      {"<=", {ordered<3>, true}},
      {"le", {ordered<3>, true}}};
  return kTests;
}

}  // namespace

bool is_test(const std::string& name) { return tests().contains(name); }
std::string unknown_test(const std::string& name) { return "No test named '" + name + "'."; }

bool apply_test(Evaluator& evaluator, const std::string& name, const Value& value, Arguments& arguments) {
  const auto found = tests().find(name);
  if (found == tests().end()) throw TemplateError(TemplateError::Reason::kUnknownName, unknown_test(name));
  evaluator.heap().charge(value.is_string() ? value.text().size() : 0);
  if (!found->second.takes_argument) {
    const Bound bound(arguments, name, {});
    return found->second.test(evaluator, value, Value());
  }
  const Bound bound(arguments, name, {name == "divisibleby" ? "num" : name == "in" ? "seq" : "other"}, 1);
  return found->second.test(evaluator, value, bound[0]);
}

}  // namespace carillon::jinja
