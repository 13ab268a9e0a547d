#include <algorithm>

#include "data/chat/arguments.h"
#include "data/chat/filters.h"
#include "data/chat/operators.h"
#include "data/chat/text.h"

namespace carillon::jinja {

Value look_up(Evaluator& evaluator, const Value& item, const Value& attribute) {
  if (attribute.is(Kind::kNone) || attribute.is(Kind::kMissing)) return item;
  if (!attribute.is_string()) return evaluator.item(item, attribute);
  Value value = item;
  for (const std::string_view part : split(attribute.text(), ".", -1)) {
    const bool number = !part.empty() && part.size() < 18 &&
                        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    value = evaluator.item(value, number ? Value::from(int64_t{std::stoll(std::string(part))})
                                         : evaluator.heap().string(std::string(part)));
  }
  return value;
}

namespace {

using Given = Arguments;

Value folded(Evaluator& evaluator, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  evaluator.heap().charge(value.text().size());
  return evaluator.heap().string(lower(value.text()));
}

// Looks up a dotted attribute; an undefined step is replaced by `otherwise`.
Value look_up_or(Evaluator& evaluator, const Value& item, const Value& attribute, const Value& otherwise) {
  if (otherwise.is(Kind::kMissing) || otherwise.is(Kind::kNone)) return look_up(evaluator, item, attribute);
  if (!attribute.is_string()) {
    const Value value = look_up(evaluator, item, attribute);
    return value.is_undefined() ? otherwise : value;
  }
  Value value = item;
  for (const std::string_view part : split(attribute.text(), ".", -1)) {
    value = look_up(evaluator, value, evaluator.heap().string(std::string(part)));
    if (value.is_undefined()) value = otherwise;
  }
  return value;
}

// Sorts items by their keys, stably; when reversed, equal items keep their order, as in Python.
void sort_by(Heap& heap, std::vector<std::pair<Value, Value>>& keyed, bool reverse) {
  if (reverse) std::reverse(keyed.begin(), keyed.end());
  heap.charge(keyed.size() * 2 * sizeof(Value));
  std::stable_sort(keyed.begin(), keyed.end(),
                   [&](const auto& a, const auto& b) { return less(heap, a.first, b.first, "<"); });
  if (reverse) std::reverse(keyed.begin(), keyed.end());
}

Value sort_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "sort", {"reverse", "case_sensitive", "attribute"});
  Heap& heap = evaluator.heap();
  std::vector<Value> attributes = {Value::none()};
  if (bound.has(2) && bound[2].is_string()) {
    attributes.clear();
    for (const std::string_view part : split(bound.text(2), ",", -1))
      attributes.push_back(heap.string(std::string(part)));
  } else if (bound.has(2)) {
    attributes = {bound[2]};
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : to_vector(heap, value)) {
    std::vector<Value> key;
    for (const Value& attribute : attributes)
      key.push_back(folded(evaluator, look_up(evaluator, item, attribute), bound.flag(1, false)));
    keyed.emplace_back(heap.list(std::move(key)), item);
  }
  sort_by(heap, keyed, bound.flag(0, false));
  std::vector<Value> items;
  for (const auto& [key, item] : keyed) items.push_back(item);
  return heap.list(std::move(items));
}
Value dictsort_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "dictsort", {"case_sensitive", "by", "reverse"});
  const std::string by = bound.has(1) ? bound.text(1) : "key";
  if (by != "key" && by != "value") raise("You can only sort by either \"key\" or \"value\"");
  if (value.is_undefined()) raise_undefined(value);
  if (!value.is(Kind::kDict)) raise(std::string("'") + type_name(value) + "' object has no attribute 'items'");
  Heap& heap = evaluator.heap();
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, entry] : value.dict().entries)
    keyed.emplace_back(folded(evaluator, by == "key" ? key : entry, bound.flag(0, false)), heap.tuple({key, entry}));
  sort_by(heap, keyed, bound.flag(2, false));
  std::vector<Value> items;
  for (const auto& [key, item] : keyed) items.push_back(item);
  return heap.list(std::move(items));
}
Value groupby_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "groupby", {"attribute", "default", "case_sensitive"}, 1);
  Heap& heap = evaluator.heap();
  const bool sensitive = bound.flag(2, false);
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : to_vector(heap, value))
    keyed.emplace_back(folded(evaluator, look_up_or(evaluator, item, bound[0], bound[1]), sensitive), item);
  sort_by(heap, keyed, false);
  std::vector<Value> groups;
  for (size_t i = 0; i < keyed.size();) {
    const Value key = keyed[i].first;
    std::vector<Value> members;
    for (; i < keyed.size() && (members.empty() || equal(heap, key, keyed[i].first)); ++i)
      members.push_back(keyed[i].second);
    const Value shown = sensitive ? key : look_up_or(evaluator, members[0], bound[0], bound[1]);
    const Value group = heap.tuple({shown, heap.list(std::move(members))});
    static_cast<List*>(group.object)->is_group = true;
    groups.push_back(group);
  }
  return heap.list(std::move(groups));
}
Value unique_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "unique", {"case_sensitive", "attribute"});
  auto* seen = evaluator.heap().make<Dict>();
  return evaluator.heap().iterator(
      [&evaluator, seen, bound, next = iterate(evaluator.heap(), value)](Value& item) {
        while (next(item)) {
          const Value key =
              folded(evaluator, look_up(evaluator, item, bound.or_else(1, Value::none())), bound.flag(0, false));
          evaluator.heap().charge(key.is_string() ? 0 : 16 * seen->entries.size());
          if (seen->find(key) != nullptr) continue;
          seen->set(key, Value::none());
          return true;
        }
        return false;
      },
      iterator_depth(value) + 1);
}
Value extreme(Evaluator& evaluator, const Value& value, Given& given, bool greatest) {
  const Bound bound(given, greatest ? "max" : "min", {"case_sensitive", "attribute"});
  Heap& heap = evaluator.heap();
  const Next next = iterate(heap, value);
  Value best, best_key;
  bool any = false;
  for (Value item; next(item);) {
    const Value key =
        folded(evaluator, look_up(evaluator, item, bound.or_else(1, Value::none())), bound.flag(0, false));
    if (!any || (greatest ? less(heap, best_key, key, ">") : less(heap, key, best_key, "<"))) {
      best = item;
      best_key = key;
    }
    any = true;
  }
  return any ? best : heap.undefined("No aggregated item, sequence was empty.");
}
Value min_filter(Evaluator& evaluator, const Value& value, Given& given) {
  return extreme(evaluator, value, given, false);
}
Value max_filter(Evaluator& evaluator, const Value& value, Given& given) {
  return extreme(evaluator, value, given, true);
}

Value join_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "join", {"d", "attribute"});
  Heap& heap = evaluator.heap();
  const std::string separator = bound.has(0) ? to_text(heap, bound[0]) : "";
  std::string text;
  const Next next = iterate(heap, value);
  bool first = true;
  for (Value item; next(item); first = false) {
    const Value part = look_up(evaluator, item, bound.or_else(1, Value::none()));
    if (!first) text += separator;
    heap.charge(separator.size());
    text += to_text(heap, part);
    if (part.is_string()) heap.charge(part.text().size());
  }
  return heap.string(std::move(text));
}
Value first_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "first", {});
  Value item;
  return iterate(evaluator.heap(), value)(item) ? item
                                                : evaluator.heap().undefined("No first item, sequence was empty.");
}
// The items in reverse order; nothing for iterators, which Python cannot reverse.
std::optional<std::vector<Value>> reversed(Heap& heap, const Value& value) {
  if (value.is(Kind::kIterator) || !is_iterable(value)) return std::nullopt;
  std::vector<Value> items = to_vector(heap, value);
  std::reverse(items.begin(), items.end());
  return items;
}
Value last_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "last", {});
  if (value.is_sequence() && !value.items().empty()) return value.items().back();
  const auto items = reversed(evaluator.heap(), value);
  if (!items) raise(std::string("'") + type_name(value) + "' object is not reversible");
  return items->empty() ? evaluator.heap().undefined("No last item, sequence was empty.") : items->front();
}
Value list_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "list", {});
  return evaluator.heap().list(to_vector(evaluator.heap(), value));
}
Value reverse_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "reverse", {});
  Heap& heap = evaluator.heap();
  if (value.is_string()) return evaluator.slice(value, Value::none(), Value::none(), Value::from(int64_t{-1}));
  if (const auto items = reversed(heap, value)) return heap.iterator(iterate(heap, heap.list(*items)), 1);
  std::vector<Value> items = to_vector(heap, value);
  std::reverse(items.begin(), items.end());
  return heap.list(std::move(items));
}
Value items_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "items", {});
  Heap& heap = evaluator.heap();
  // A generator: errors appear only when it is read.
  return heap.iterator(
      [&heap, value, next = Next()](Value& item) mutable {
        if (!next && !value.is_undefined()) {
          if (!value.is(Kind::kDict)) raise("Can only get item pairs from a mapping.");
          auto* view = heap.make<DictView>();
          view->part = DictView::Part::kItems;
          view->dict = &value.dict();
          next = iterate(heap, Value::of(Kind::kDictView, view));
        }
        return next && next(item);
      },
      1);
}
Value sum_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "sum", {"attribute", "start"});
  Heap& heap = evaluator.heap();
  Value sum = bound.or_else(1, Value::from(int64_t{0}));
  if (sum.is_string()) raise("sum() can't sum strings [use ''.join(seq) instead]");
  const Next next = iterate(heap, value);
  for (Value item; next(item);) sum = binary(heap, "+", sum, look_up(evaluator, item, bound.or_else(0, Value::none())));
  return sum;
}
Value batch_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "batch", {"linecount", "fill_with"}, 1);
  Heap& heap = evaluator.heap();
  const int64_t size = bound.integer(0, 1);
  const Value fill = bound.or_else(1, Value::none());
  return heap.iterator(
      [&heap, size, fill, next = iterate(heap, value), held = Value(), ended = false](Value& item) mutable {
        if (ended) return false;
        std::vector<Value> line;
        if (!held.is(Kind::kMissing)) line.push_back(std::exchange(held, Value()));
        for (Value fresh; !ended;) {
          if (!next(fresh)) {
            ended = true;
          } else if (static_cast<int64_t>(line.size()) == size) {
            held = fresh;
            break;
          } else {
            line.push_back(fresh);
          }
        }
        if (line.empty() && ended) return false;
        if (ended && !fill.is(Kind::kNone))
          while (static_cast<int64_t>(line.size()) < size) {
            heap.charge(sizeof(Value));
            line.push_back(fill);
          }
        item = heap.list(std::move(line));
        return true;
      },
      iterator_depth(value) + 1);
}
Value slice_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "slice", {"slices", "fill_with"}, 1);
  Heap& heap = evaluator.heap();
  const int64_t slices = bound.integer(0, 1);
  const Value fill = bound.or_else(1, Value::none());
  return heap.iterator(
      [&heap, value, slices, fill, items = std::vector<Value>(), number = int64_t{-1},
       offset = int64_t{0}](Value& item) mutable {
        if (number < 0) {
          items = to_vector(heap, value);
          number = 0;
          if (slices == 0) raise("integer division or modulo by zero");
        }
        if (number >= slices) return false;
        const auto size = static_cast<int64_t>(items.size());
        const int64_t each = size / slices, extra = size % slices;
        const int64_t start = offset + number * each;
        if (number < extra) ++offset;
        const int64_t end = offset + (number + 1) * each;
        std::vector<Value> part(items.begin() + start, items.begin() + end);
        if (!fill.is(Kind::kNone) && number >= extra) part.push_back(fill);
        ++number;
        item = heap.list(std::move(part));
        return true;
      },
      1);
}

// Applies a filter to each item, or looks up an attribute of it.
Value map_filter(Evaluator& evaluator, const Value& value, Given& given) {
  Heap& heap = evaluator.heap();
  return heap.iterator(
      [&evaluator, value, given, next = Next()](Value& item) mutable {
        if (!next) {
          if (!truth(value)) return false;
          if (given.positional.empty() && std::none_of(given.named.begin(), given.named.end(),
                                                       [](const auto& named) { return named.first == "attribute"; }))
            raise("map requires a filter argument");
          next = iterate(evaluator.heap(), value);
        }
        if (!next(item)) return false;
        if (given.positional.empty()) {
          const Bound bound(given, "map", {"attribute", "default"}, 1);
          item = look_up_or(evaluator, item, bound[0], bound[1]);
          return true;
        }
        if (!given.positional[0].is_string()) raise("map takes the name of a filter");
        Arguments rest{{given.positional.begin() + 1, given.positional.end()}, given.named};
        item = apply_filter(evaluator, given.positional[0].text(), item, rest);
        return true;
      },
      iterator_depth(value) + 1);
}
Value chosen(Evaluator& evaluator, const Value& value, const Given& given, bool keep, bool by_attribute) {
  return evaluator.heap().iterator(
      [&evaluator, value, given, keep, by_attribute, next = Next()](Value& item) mutable {
        if (!next) {
          if (!truth(value)) return false;
          if (by_attribute && given.positional.empty()) raise("Missing parameter for attribute name");
          next = iterate(evaluator.heap(), value);
        }
        const size_t from = by_attribute ? 1 : 0;
        while (next(item)) {
          const Value subject = by_attribute ? look_up(evaluator, item, given.positional[0]) : item;
          bool holds;
          if (given.positional.size() > from) {
            if (!given.positional[from].is_string()) raise("select takes the name of a test");
            Arguments rest{{given.positional.begin() + static_cast<std::ptrdiff_t>(from) + 1, given.positional.end()},
                           given.named};
            holds = apply_test(evaluator, given.positional[from].text(), subject, rest);
          } else {
            holds = truth(subject);
          }
          if (holds == keep) return true;
        }
        return false;
      },
      iterator_depth(value) + 1);
}
Value select_filter(Evaluator& e, const Value& value, Given& given) { return chosen(e, value, given, true, false); }
Value reject_filter(Evaluator& e, const Value& value, Given& given) { return chosen(e, value, given, false, false); }
Value selectattr_filter(Evaluator& e, const Value& value, Given& given) { return chosen(e, value, given, true, true); }
Value rejectattr_filter(Evaluator& e, const Value& value, Given& given) { return chosen(e, value, given, false, true); }

}  // namespace

const std::unordered_map<std::string, Filter>& sequence_filters() {
  static const std::unordered_map<std::string, Filter> kFilters = {{"batch", batch_filter},
                                                                   {"dictsort", dictsort_filter},
                                                                   {"first", first_filter},
                                                                   {"groupby", groupby_filter},
                                                                   {"items", items_filter},
                                                                   {"join", join_filter},
                                                                   {"last", last_filter},
                                                                   {"list", list_filter},
                                                                   {"map", map_filter},
                                                                   {"max", max_filter},
                                                                   {"min", min_filter},
                                                                   {"reject", reject_filter},
                                                                   {"rejectattr", rejectattr_filter},
                                                                   {"reverse", reverse_filter},
                                                                   {"select", select_filter},
                                                                   {"selectattr", selectattr_filter},
                                                                   {"slice", slice_filter},
                                                                   {"sort", sort_filter},
                                                                   {"sum", sum_filter},
                                                                   {"unique", unique_filter}};
  return kFilters;
}

}  // namespace carillon::jinja
