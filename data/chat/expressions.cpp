#include <algorithm>

#include "data/chat/evaluator.h"
#include "data/chat/filters.h"
#include "data/chat/format.h"
#include "data/chat/operators.h"
#include "data/chat/text.h"

namespace carillon::jinja {

using ExpressionKind = Expression::Kind;

Value Evaluator::evaluate(const Expression& node) {
  const Depth depth(*this);
  heap_.charge();
  position_ = node.position;
  switch (node.kind) {
    case ExpressionKind::kConstant:
      return node.value;
    case ExpressionKind::kName: {
      const Value value = at(node.place);
      return value.is(Kind::kMissing) ? heap_.undefined("'" + node.text + "' is undefined") : value;
    }
    case ExpressionKind::kTuple:
    case ExpressionKind::kList: {
      std::vector<Value> items;
      for (const auto& part : node.parts) items.push_back(evaluate(*part));
      return node.kind == ExpressionKind::kList ? heap_.list(std::move(items)) : heap_.tuple(std::move(items));
    }
    case ExpressionKind::kDict: {
      auto* dict = heap_.make<Dict>();
      for (size_t i = 0; i < node.parts.size(); i += 2) {
        const Value key = evaluate(*node.parts[i]), value = evaluate(*node.parts[i + 1]);
        check_hashable(key);
        heap_.charge(key.is_string() ? sizeof(Value) : 16 * dict->entries.size());
        dict->set(key, value);
      }
      return Value::of(Kind::kDict, dict);
    }
    case ExpressionKind::kAttribute: {
      const Value object = evaluate(*node.parts[0]);
      position_ = node.position;
      return attribute(object, node.text);
    }
    case ExpressionKind::kItem: {
      const Value object = evaluate(*node.parts[0]), key = evaluate(*node.parts[1]);
      position_ = node.position;
      return item(object, key);
    }
    case ExpressionKind::kSlice: {
      const Value object = evaluate(*node.parts[0]);
      Value bounds[3];
      for (size_t i = 0; i < 3; ++i)
        bounds[i] = node.parts[1]->parts[i] ? evaluate(*node.parts[1]->parts[i]) : Value::none();
      position_ = node.position;
      return slice(object, bounds[0], bounds[1], bounds[2]);
    }
    case ExpressionKind::kCall:
      return evaluate_call(node, nullptr);
    case ExpressionKind::kFilter:
      return evaluate_filter(node, nullptr);
    case ExpressionKind::kTest: {
      const Value value = evaluate(*node.parts[0]);
      Arguments given = arguments(node.arguments);
      position_ = node.position;
      return Value::from(apply_test(*this, node.text, value, given));
    }
    case ExpressionKind::kNot:
      return Value::from(!truth(evaluate(*node.parts[0])));
    case ExpressionKind::kUnary: {
      const Value value = evaluate(*node.parts[0]);
      position_ = node.position;
      return unary(node.text, value);
    }
    case ExpressionKind::kBinary: {
      const Value left = evaluate(*node.parts[0]), right = evaluate(*node.parts[1]);
      position_ = node.position;
      return binary(heap_, node.text, left, right);
    }
    case ExpressionKind::kAnd: {
      const Value left = evaluate(*node.parts[0]);
      return truth(left) ? evaluate(*node.parts[1]) : left;
    }
    case ExpressionKind::kOr: {
      const Value left = evaluate(*node.parts[0]);
      return truth(left) ? left : evaluate(*node.parts[1]);
    }
    case ExpressionKind::kCompare:
      return evaluate_compare(node);
    case ExpressionKind::kConcatenate: {
      std::string text;
      std::vector<Value> values;
      for (const auto& part : node.parts) values.push_back(evaluate(*part));
      position_ = node.position;
      for (const Value& value : values) text += to_text(heap_, value);
      return heap_.string(std::move(text));
    }
    case ExpressionKind::kConditional:
      if (truth(evaluate(*node.parts[1]))) return evaluate(*node.parts[0]);
      if (node.parts[2]) return evaluate(*node.parts[2]);
      return heap_.undefined("the inline if-expression on line " + std::to_string(node.position.line) +
                             " evaluated to false and no else section was defined.");
    case ExpressionKind::kNamespaceTarget:
      break;
  }
  raise("this is no expression");
}

Value Evaluator::evaluate_compare(const Expression& node) {
  Value left = evaluate(*node.parts[0]);
  for (size_t i = 0; i < node.operators.size(); ++i) {
    const Value right = evaluate(*node.parts[i + 1]);
    position_ = node.position;
    if (!compare(heap_, node.operators[i], left, right)) return Value::from(false);
    left = right;
  }
  return Value::from(true);
}

Arguments Evaluator::arguments(const CallArguments& given) {
  Arguments result;
  for (const auto& part : given.positional) result.positional.push_back(evaluate(*part));
  for (const auto& [name, part] : given.named) result.named.emplace_back(name, evaluate(*part));
  if (given.more_positional) {
    const Value more = evaluate(*given.more_positional);
    for (const Value& item : to_vector(heap_, more)) result.positional.push_back(item);
  }
  if (given.more_named) {
    const Value more = evaluate(*given.more_named);
    if (!more.is(Kind::kDict)) raise("argument after ** must be a mapping");
    for (const auto& [key, value] : more.dict().entries) {
      if (!key.is_string()) raise("keywords must be strings");
      for (const auto& [name, known] : result.named)
        if (name == key.text()) raise("got multiple values for keyword argument '" + name + "'");
      heap_.charge(16 * result.named.size());
      result.named.emplace_back(key.text(), value);
    }
  }
  return result;
}

Value Evaluator::evaluate_call(const Expression& node, const Value* caller) {
  const Value callee = evaluate(*node.parts[0]);
  Arguments given = arguments(node.arguments);
  if (caller != nullptr) given.named.emplace_back("caller", *caller);
  position_ = node.position;
  const Value value = call(callee, given);
  position_ = node.position;
  return value;
}

Value Evaluator::call(const Value& callee, Arguments& given) {
  const Depth depth(*this);
  heap_.charge();
  switch (callee.kind) {
    case Kind::kFunction:
      return static_cast<const Function*>(callee.object)->call(*this, given);
    case Kind::kMacro:
      return call_macro(*static_cast<const Macro*>(callee.object), given);
    case Kind::kLoop:
      return call_loop(*static_cast<Loop*>(callee.object), given);
    case Kind::kJoiner: {
      auto& joiner = *static_cast<Joiner*>(callee.object);
      if (!given.positional.empty() || !given.named.empty()) raise("a joiner takes no arguments");
      return std::exchange(joiner.used, true) ? joiner.separator : heap_.string("");
    }
    case Kind::kDictClass: {
      const auto function = own_attribute(callee, "__call__");
      return static_cast<const Function*>(function->object)->call(*this, given);
    }
    case Kind::kMissing:
    case Kind::kUndefined:
      raise_undefined(callee);
    default:
      raise(std::string("'") + type_name(callee) + "' object is not callable");
  }
}

// `body` is the content of a filter or set block, which is the input of the chain's innermost filter.
Value Evaluator::evaluate_filter(const Expression& node, const std::string* body) {
  const Depth depth(*this);
  Value value;
  if (node.parts.empty())
    value = heap_.string(*body);
  else if (node.parts[0]->kind == ExpressionKind::kFilter)
    value = evaluate_filter(*node.parts[0], body);
  else
    value = evaluate(*node.parts[0]);
  Arguments given = arguments(node.arguments);
  position_ = node.position;
  const Value result = apply_filter(*this, node.text, value, given);
  position_ = node.position;
  return result;
}

namespace {

Value missing_attribute(Heap& heap, const Value& object, const std::string& name) {
  if (object.is(Kind::kNone)) return heap.undefined("'None' has no attribute '" + name + "'");
  return heap.undefined(std::string("'") + type_name(object) + " object' has no attribute '" + name + "'");
}

bool changes(const Value& object, const std::string& name) {
  static const std::vector<std::string> kList = {"append", "clear",  "extend",  "insert",
                                                 "pop",    "remove", "reverse", "sort"},
                                        kDict = {"clear", "pop", "popitem", "setdefault", "update"};
  const auto has = [&](const std::vector<std::string>& names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  return object.is(Kind::kList) ? has(kList) : object.is(Kind::kDict) && has(kDict);
}

}  // namespace

// What Python's getattr returns, as far as templates may see it.
std::optional<Value> Evaluator::own_attribute(const Value& object, const std::string& name) {
  if (changes(object, name) || (name.size() > 4 && name.starts_with("__") && name.ends_with("__") &&
                                !object.is(Kind::kNamespace) && !object.is(Kind::kDictClass)))
    return heap_.undefined("access to attribute '" + name + "' of '" + type_name(object) + "' object is unsafe.");
  switch (object.kind) {
    case Kind::kNamespace:
      if (const Value* found = static_cast<Namespace*>(object.object)->find(name)) return *found;
      return std::nullopt;
    case Kind::kLoop: {
      const Value value = loop_attribute(*static_cast<Loop*>(object.object), name);
      if (value.is(Kind::kMissing)) return std::nullopt;
      return value;
    }
    case Kind::kMacro: {
      const auto& macro = *static_cast<const Macro*>(object.object);
      if (name == "name") return macro.name.empty() ? Value::none() : heap_.string(macro.name);
      if (name == "arguments") {
        std::vector<Value> names;
        for (const std::string& parameter : macro.node->parameters) names.push_back(heap_.string(parameter));
        return heap_.tuple(std::move(names));
      }
      if (name == "catch_kwargs") return Value::from(macro.node->named_slot >= 0);
      if (name == "catch_varargs") return Value::from(macro.node->positional_slot >= 0);
      if (name == "caller") return Value::from(macro.node->caller_slot >= 0 || macro.node->explicit_caller);
      return std::nullopt;
    }
    case Kind::kCycler: {
      const Value value = cycler_attribute(heap_, object, name);
      if (value.is(Kind::kMissing)) return std::nullopt;
      return value;
    }
    case Kind::kDictClass:
      if (name == "fromkeys" || name == "__call__") return cycler_attribute(heap_, object, name);
      return std::nullopt;
    case Kind::kTuple:
      if (static_cast<const List*>(object.object)->is_group) {
        if (name == "grouper") return object.items()[0];
        if (name == "list") return object.items()[1];
      }
      return method(heap_, object, name);
    default:
      return method(heap_, object, name);
  }
}

Value Evaluator::attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) raise_undefined(object);
  if (const auto found = own_attribute(object, name)) return *found;
  if (object.is(Kind::kDict))
    if (const Value* found = object.dict().find(name)) return *found;
  return missing_attribute(heap_, object, name);
}

Value Evaluator::item(const Value& object, const Value& key) {
  if (object.is_undefined()) raise_undefined(object);
  if (object.is(Kind::kDict)) {
    heap_.charge(key.is_string() ? 0 : 16 * object.dict().entries.size());
    bool hashable = true;
    try {
      check_hashable(key);
    } catch (const TemplateError&) {
      hashable = false;
    }
    if (hashable)
      if (const Value* found = object.dict().find(key)) return *found;
  } else if (key.is_integral()) {
    int64_t index = key.as_integer();
    const auto size = length(heap_, object);
    const bool indexed = object.is_string() || object.is_sequence() || object.is(Kind::kRange);
    if (indexed && index < 0) index += *size;
    if (indexed && index >= 0 && index < *size) {
      if (object.is_sequence()) return object.items()[static_cast<size_t>(index)];
      if (object.is(Kind::kRange)) {
        const auto& range = *static_cast<const Range*>(object.object);
        return Value::from(range.start + index * range.step);
      }
      const std::string& text = object.text();
      size_t at = static_cast<size_t>(index);
      if (object.string().length != static_cast<int64_t>(text.size())) {
        heap_.charge(text.size());
        at = byte_offset(text, index);
      }
      const size_t from = at;
      next_character(text, at);
      return heap_.string(text.substr(from, at - from), object.string().markup);
    }
  }
  if (key.is_string()) {
    if (const auto found = own_attribute(object, key.text())) return *found;
    return missing_attribute(heap_, object, key.text());
  }
  return heap_.undefined(std::string(type_name(object)) + " object has no element " +
                         (key.kind <= Kind::kFloat ? representation(heap_, key) : type_name(key)));
}

Value Evaluator::slice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) raise_undefined(object);
  const bool sliced = object.is_string() || object.is_sequence() || object.is(Kind::kRange);
  if (object.is(Kind::kDict)) raise("unhashable type: 'slice'");
  if (!sliced) raise(std::string("'") + type_name(object) + "' object is not subscriptable");
  for (const Value* bound : {&start, &stop, &step})
    if (!bound->is(Kind::kNone) && !bound->is_integral())
      raise("slice indices must be integers or None or have an __index__ method");
  const int64_t by = step.is(Kind::kNone) ? 1 : step.as_integer();
  if (by == 0) raise("slice step cannot be zero");
  const int64_t size = *length(heap_, object);
  const auto bound = [&](const Value& given, int64_t otherwise) {
    if (given.is(Kind::kNone)) return otherwise;
    int64_t value = given.as_integer();
    if (value < 0) value = value < -size ? -1 : value + size;
    if (given.as_integer() < -size) return by < 0 ? int64_t{-1} : int64_t{0};
    return std::min(value, by < 0 ? size - 1 : size);
  };
  const Range range = [&] {
    Range made;
    made.start = bound(start, by < 0 ? size - 1 : 0);
    made.stop = bound(stop, by < 0 ? -1 : size);
    made.step = by;
    return made;
  }();
  const int64_t count = range.length();
  if (object.is(Kind::kRange)) {
    const auto& whole = *static_cast<const Range*>(object.object);
    auto* made = heap_.make<Range>();
    made->start = whole.start + range.start * whole.step;
    made->stop = whole.start + range.stop * whole.step;
    if (__builtin_mul_overflow(whole.step, by, &made->step)) raise("an integer beyond 64 bits");
    return Value::of(Kind::kRange, made);
  }
  if (object.is_sequence()) {
    heap_.charge(static_cast<size_t>(count) * sizeof(Value));
    std::vector<Value> items;
    for (int64_t i = 0; i < count; ++i) items.push_back(object.items()[static_cast<size_t>(range.start + i * by)]);
    return object.is(Kind::kList) ? heap_.list(std::move(items)) : heap_.tuple(std::move(items));
  }
  const std::string& text = object.text();
  heap_.charge(text.size());
  std::string result;
  if (count > 0 && by == 1) {
    const size_t from = byte_offset(text, range.start);
    result = text.substr(from, byte_offset(std::string_view(text).substr(from), count));
  } else if (count > 0) {
    std::vector<size_t> begins;
    for (size_t at = 0; at < text.size(); next_character(text, at)) begins.push_back(at);
    begins.push_back(text.size());
    for (int64_t i = 0; i < count; ++i) {
      const auto index = static_cast<size_t>(range.start + i * by);
      result += text.substr(begins[index], begins[index + 1] - begins[index]);
    }
  }
  return heap_.string(std::move(result), object.string().markup);
}

Value Evaluator::loop_attribute(Loop& loop, const std::string& name) {
  const auto whole = [&] {
    if (loop.length >= 0) return loop.length;
    const auto known = loop.iterable.is(Kind::kMissing) ? std::nullopt : length(heap_, loop.iterable);
    if (known) return loop.length = *known;
    // Reads the remaining items to count them.
    std::vector<Value> rest;
    for (Value value; loop.next(value);) rest.push_back(value);
    const auto left = static_cast<int64_t>(rest.size());
    loop.next = iterate(heap_, heap_.list(std::move(rest)));
    return loop.length = left + loop.index0 + 1 + (loop.after.is(Kind::kMissing) ? 0 : 1);
  };
  const auto peek = [&] {
    if (!loop.after.is(Kind::kMissing)) return true;
    Value value;
    if (!loop.next(value)) return false;
    loop.after = value;
    return true;
  };
  if (name == "index") return Value::from(loop.index0 + 1);
  if (name == "index0") return Value::from(loop.index0);
  if (name == "first") return Value::from(loop.index0 == 0);
  if (name == "last") return Value::from(!peek());
  if (name == "length") return Value::from(whole());
  if (name == "revindex") return Value::from(whole() - loop.index0);
  if (name == "revindex0") return Value::from(whole() - loop.index0 - 1);
  if (name == "depth") return Value::from(loop.depth0 + 1);
  if (name == "depth0") return Value::from(loop.depth0);
  if (name == "previtem") return loop.index0 == 0 ? heap_.undefined("there is no previous item") : loop.before;
  if (name == "nextitem") return peek() ? loop.after : heap_.undefined("there is no next item");
  if (name == "cycle")
    return heap_.function("cycle", [&loop](Evaluator&, Arguments& given) {
      if (given.positional.empty()) raise("no items for cycling given");
      return given.positional[static_cast<size_t>(loop.index0) % given.positional.size()];
    });
  if (name == "changed")
    return heap_.function("changed", [&loop](Evaluator& evaluator, Arguments& given) {
      const Value now = evaluator.heap().tuple(given.positional);
      const bool changed = loop.changed.is(Kind::kMissing) || !equal(evaluator.heap(), loop.changed, now);
      if (changed) loop.changed = now;
      return Value::from(changed);
    });
  return {};
}

}  // namespace carillon::jinja
