// Iteration over values.
#include "data/chat/text.h"
#include "data/chat/value.h"

namespace carillon::jinja {

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
