#include <ctime>

#include "data/chat/arguments.h"
#include "data/chat/evaluator.h"
#include "data/chat/text.h"

namespace carillon::jinja {
namespace {

// dict(mapping or pairs, **more); charged.
Dict* make_dict(Heap& heap, const Arguments& given) {
  if (given.positional.size() > 1)
    raise("dict expected at most 1 argument, got " + std::to_string(given.positional.size()));
  auto* dict = heap.make<Dict>();
  const auto set = [&](const Value& key, const Value& value) {
    check_hashable(key);
    heap.charge(key.is_string() ? 2 * sizeof(Value) : 16 * dict->entries.size());
    dict->set(key, value);
  };
  if (!given.positional.empty()) {
    const Value& from = given.positional[0];
    if (from.is(Kind::kDict)) {
      for (const auto& [key, value] : from.dict().entries) set(key, value);
    } else {
      for (const Value& item : to_vector(heap, from)) {
        const std::vector<Value> pair = to_vector(heap, item);
        if (pair.size() != 2)
          raise("dictionary update sequence element has length " + std::to_string(pair.size()) + "; 2 is required");
        set(pair[0], pair[1]);
      }
    }
  }
  for (const auto& [name, value] : given.named) set(heap.string(name), value);
  return dict;
}

Value range_function(Evaluator& evaluator, Arguments& given) {
  const Bound bound(given, "range", {"start", "stop", "step"}, 1);
  auto* range = evaluator.heap().make<Range>();
  if (bound.has(1)) {
    range->start = bound.integer(0, 0);
    range->stop = bound.integer(1, 0);
    range->step = bound.integer(2, 1);
  } else {
    range->stop = bound.integer(0, 0);
  }
  if (range->step == 0) raise("range() arg 3 must not be zero");
  if (range->length() > 100000) raise("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  return Value::of(Kind::kRange, range);
}

Value namespace_function(Evaluator& evaluator, Arguments& given) {
  Heap& heap = evaluator.heap();
  const Dict* dict = make_dict(heap, given);
  auto* made = heap.make<Namespace>();
  for (const auto& [name, value] : dict->entries) {
    if (!name.is_string()) raise("names in a namespace are texts");
    heap.charge(16 * made->attributes.size());
    made->set(name.text(), value);
  }
  return Value::of(Kind::kNamespace, made);
}

Value raise_function(Evaluator& evaluator, Arguments& given) {
  const Bound bound(given, "raise_exception", {"message"}, 1);
  throw TemplateError(TemplateError::Reason::kRaised, to_text(evaluator.heap(), bound[0]));
}

Value strftime_function(Evaluator& evaluator, Arguments& given) {
  const Bound bound(given, "strftime_now", {"format"}, 1);
  const std::string& format = bound.text(0);
  if (format.empty()) return evaluator.heap().string("");
  if (format.size() > 1000) raise("a time format of more than 1000 characters");
  const auto now = static_cast<std::time_t>(evaluator.now());
  std::tm parts{};
  localtime_r(&now, &parts);
  std::string text(64 + 64 * format.size(), '\0');
  text.resize(std::strftime(text.data(), text.size(), format.c_str(), &parts));
  return evaluator.heap().string(std::move(text));
}

Value cycler_function(Evaluator& evaluator, Arguments& given) {
  if (given.positional.empty() || !given.named.empty()) raise("at least one item has to be provided");
  auto* cycler = evaluator.heap().make<Cycler>();
  cycler->items = given.positional;
  return Value::of(Kind::kCycler, cycler);
}

Value joiner_function(Evaluator& evaluator, Arguments& given) {
  const Bound bound(given, "joiner", {"sep"});
  auto* joiner = evaluator.heap().make<Joiner>();
  joiner->separator = bound.or_else(0, evaluator.heap().string(", "));
  return Value::of(Kind::kJoiner, joiner);
}

}  // namespace

std::vector<std::pair<std::string, Value>> globals(Heap& heap) {
  return {{"range", heap.function("range", range_function)},
          {"dict", Value::of(Kind::kDictClass)},
          {"namespace", heap.function("namespace", namespace_function)},
          {"cycler", heap.function("cycler", cycler_function)},
          {"joiner", heap.function("joiner", joiner_function)},
          {"lipsum", heap.function("lipsum",
                                   [](Evaluator&, Arguments&) -> Value {
                                     raise("lipsum() makes random text, which is not supported here");
                                   })},
          {"raise_exception", heap.function("raise_exception", raise_function)},
          {"strftime_now", heap.function("strftime_now", strftime_function)}};
}

Value cycler_attribute(Heap& heap, const Value& object, const std::string& name) {
  if (object.is(Kind::kDictClass)) {
    if (name == "fromkeys")
      return heap.function("fromkeys", [](Evaluator& evaluator, Arguments& given) {
        const Bound bound(given, "fromkeys", {"iterable", "value"}, 1);
        auto* dict = evaluator.heap().make<Dict>();
        for (const Value& key : to_vector(evaluator.heap(), bound[0])) {
          check_hashable(key);
          evaluator.heap().charge(key.is_string() ? 0 : 16 * dict->entries.size());
          dict->set(key, bound.or_else(1, Value::none()));
        }
        return Value::of(Kind::kDict, dict);
      });
    return heap.function("dict", [](Evaluator& evaluator, Arguments& given) {
      return Value::of(Kind::kDict, make_dict(evaluator.heap(), given));
    });
  }
  auto* cycler = static_cast<Cycler*>(object.object);
  if (name == "current") return cycler->items[cycler->position];
  if (name == "items") return heap.tuple(cycler->items);
  if (name == "pos") return Value::from(static_cast<int64_t>(cycler->position));
  if (name == "next")
    return heap.function("next", [cycler](Evaluator&, Arguments&) {
      const Value value = cycler->items[cycler->position];
      cycler->position = (cycler->position + 1) % cycler->items.size();
      return value;
    });
  if (name == "reset")
    return heap.function("reset", [cycler](Evaluator&, Arguments&) {
      cycler->position = 0;
      return Value::none();
    });
  return {};
}

}  // namespace carillon::jinja
