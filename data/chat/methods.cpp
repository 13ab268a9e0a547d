#include <algorithm>
#include <map>

#include "data/chat/arguments.h"
#include "data/chat/evaluator.h"
#include "data/chat/format.h"
#include "data/chat/operators.h"
#include "data/chat/text.h"

namespace carillon::jinja {
namespace {

// A method of str: takes the evaluator, the text and the arguments.
using StringMethod = Value (*)(Evaluator&, const Value&, const Arguments&);

Value text_value(Evaluator& evaluator, const Value& like, std::string_view text) {
  return evaluator.heap().string(std::string(text), like.string().markup);
}
// A part that is put into a Markup is escaped unless it is a Markup itself.
std::string put_into(const Value& self, const Value& part) {
  return self.string().markup && !part.string().markup ? escape_html(part.text()) : part.text();
}
Value text_list(Evaluator& evaluator, const Value& like, const std::vector<std::string_view>& parts) {
  std::vector<Value> items;
  for (const std::string_view part : parts) items.push_back(text_value(evaluator, like, part));
  return evaluator.heap().list(std::move(items));
}
std::optional<std::string_view> optional_text(const Bound& bound, size_t i) {
  if (!bound.has(i) || bound[i].is(Kind::kNone)) return std::nullopt;
  return bound.text(i);
}

template <std::string (*kChange)(std::string_view)>
Value changed(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, "this method", {});
  return text_value(evaluator, self, kChange(self.text()));
}
template <bool (*kIs)(int32_t)>
Value all(Evaluator&, const Value& self, const Arguments& given) {
  const Bound bound(given, "this method", {});
  return Value::from(all_are(self.text(), kIs));
}
template <bool (*kIs)(std::string_view)>
Value whole(Evaluator&, const Value& self, const Arguments& given) {
  const Bound bound(given, "this method", {});
  return Value::from(kIs(self.text()));
}
template <Side kSide>
Value stripped(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, "strip", {"chars"});
  return text_value(evaluator, self, strip(self.text(), kSide, optional_text(bound, 0)));
}
template <bool kRight>
Value split_method(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, "split", {"sep", "maxsplit"});
  const auto separator = optional_text(bound, 0);
  if (separator && separator->empty()) raise("empty separator");
  const int64_t limit = bound.integer(1, -1);
  return text_list(evaluator, self,
                   kRight ? split_right(self.text(), separator, limit) : split(self.text(), separator, limit));
}
Value splitlines_method(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, "splitlines", {"keepends"});
  return text_list(evaluator, self, split_lines(self.text(), bound.flag(0, false)));
}
template <bool kRight>
Value partition_method(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, "partition", {"sep"}, 1);
  const std::string &text = self.text(), &separator = bound.text(0);
  if (separator.empty()) raise("empty separator");
  const size_t at = kRight ? find_last(text, separator) : find_text(text, separator);
  const bool found = at != std::string::npos;
  const std::string_view whole = text;
  const auto part = [&](std::string_view piece) { return text_value(evaluator, self, piece); };
  if (!found)
    return kRight ? evaluator.heap().tuple({part(""), part(""), part(whole)})
                  : evaluator.heap().tuple({part(whole), part(""), part("")});
  return evaluator.heap().tuple(
      {part(whole.substr(0, at)), part(separator), part(whole.substr(at + separator.size()))});
}
Value replace_method(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, "replace", {"old", "new", "count"}, 2);
  const std::string& old = bound.text(0);
  bound.text(1);
  return text_value(
      evaluator, self,
      bounded_replace(evaluator.heap(), self.text(), old, put_into(self, bound[1]), bound.integer(2, -1)));
}
Value join_method(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, "join", {"iterable"}, 1);
  std::string text;
  const Next next = iterate(evaluator.heap(), bound[0]);
  int64_t count = 0;
  for (Value item; next(item); ++count) {
    if (item.is_undefined() || !item.is_string())
      raise("sequence item " + std::to_string(count) + ": expected str instance, " + type_name(item) + " found");
    if (count > 0) text += self.text();
    evaluator.heap().charge(self.text().size() + item.text().size());
    text += put_into(self, item);
  }
  return text_value(evaluator, self, text);
}
// The part of the text between start and end, and its offset; nothing if start is past the end.
std::optional<std::pair<std::string_view, size_t>> window(const Value& self, const Bound& bound) {
  const int64_t size = self.string().length;
  const auto place = [&](size_t i, int64_t otherwise) {
    if (!bound.has(i) || bound[i].is(Kind::kNone)) return otherwise;
    const int64_t value = bound.integer(i, 0);
    return value < 0 ? std::max<int64_t>(value + size, 0) : value;
  };
  const int64_t start = place(1, 0), end = std::min(place(2, size), size);
  if (start > size || start > end) return std::nullopt;
  const std::string_view text = self.text();
  const size_t from = byte_offset(text, start), to = byte_offset(text, end);
  return std::pair{text.substr(from, to - from), from};
}
template <bool kEnd>
Value begins(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, kEnd ? "endswith" : "startswith", {"prefix", "start", "end"}, 1);
  const auto part = window(self, bound);
  std::vector<Value> wanted = {bound[0]};
  if (bound[0].is(Kind::kTuple)) wanted = bound[0].items();
  bool holds = false;
  for (const Value& each : wanted) {
    if (each.is_undefined() || !each.is_string())
      raise(std::string(kEnd ? "endswith" : "startswith") + " first arg must be str or a tuple of str, not " +
            type_name(each));
    evaluator.heap().charge(each.text().size());
    if (part) holds = holds || (kEnd ? part->first.ends_with(each.text()) : part->first.starts_with(each.text()));
  }
  return Value::from(holds);
}
template <bool kLast, bool kMust>
Value found(Evaluator&, const Value& self, const Arguments& given) {
  const Bound bound(given, "find", {"sub", "start", "end"}, 1);
  const std::string& wanted = bound.text(0);
  int64_t index = -1;
  if (const auto part = window(self, bound)) {
    const size_t at =
        kLast ? (wanted.empty() ? part->first.size() : find_last(part->first, wanted)) : find_text(part->first, wanted);
    if (at != std::string::npos) index = code_points(std::string_view(self.text()).substr(0, part->second + at));
  }
  if (kMust && index < 0) raise("substring not found");
  return Value::from(index);
}
Value count_method(Evaluator&, const Value& self, const Arguments& given) {
  const Bound bound(given, "count", {"sub", "start", "end"}, 1);
  const std::string& wanted = bound.text(0);
  const auto part = window(self, bound);
  return Value::from(part ? count_text(part->first, wanted) : int64_t{0});
}
template <char kAlign>
Value justified(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, "this method", {"width", "fillchar"}, 1);
  int32_t fill = ' ';
  if (bound.has(1)) {
    if (code_points(bound.text(1)) != 1) raise("The fill character must be exactly one character long");
    size_t at = 0;
    fill = next_character(bound.text(1), at);
  }
  return text_value(evaluator, self, padded(evaluator.heap(), self.text(), bound.integer(0, 0), fill, kAlign, true));
}
Value zfill_method(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, "zfill", {"width"}, 1);
  const std::string& text = self.text();
  const bool sign = !text.empty() && (text[0] == '+' || text[0] == '-');
  const int64_t width = bound.integer(0, 0);
  const std::string digits = padded(evaluator.heap(), std::string_view(text).substr(sign ? 1 : 0),
                                    sign ? std::max<int64_t>(width, 1) - 1 : width, '0', '>', false);
  return text_value(evaluator, self, (sign ? text.substr(0, 1) : "") + digits);
}
Value expandtabs_method(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, "expandtabs", {"tabsize"});
  const int64_t size = std::clamp<int64_t>(bound.integer(0, 8), 0, 1 << 20);
  std::string result;
  int64_t column = 0;
  const std::string& text = self.text();
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    const int32_t code = next_character(text, at);
    if (code == '\t') {
      const int64_t spaces = size == 0 ? 0 : size - column % size;
      evaluator.heap().charge(static_cast<size_t>(spaces));
      result.append(static_cast<size_t>(spaces), ' ');
      column += spaces;
      continue;
    }
    column = code == '\n' || code == '\r' ? 0 : column + 1;
    result += text.substr(from, at - from);
  }
  return text_value(evaluator, self, result);
}
template <bool kEnd>
Value removed(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, "this method", {"affix"}, 1);
  std::string_view text = self.text();
  const std::string& affix = bound.text(0);
  if (kEnd ? text.ends_with(affix) : text.starts_with(affix))
    text = kEnd ? text.substr(0, text.size() - affix.size()) : text.substr(affix.size());
  return text_value(evaluator, self, text);
}
Value format_method(Evaluator& evaluator, const Value& self, const Arguments& given) {
  return text_value(evaluator, self, format_braces(evaluator, self.text(), given, self.string().markup));
}
Value format_map_method(Evaluator& evaluator, const Value& self, const Arguments& given) {
  const Bound bound(given, "format_map", {"mapping"}, 1);
  if (!bound[0].is(Kind::kDict)) raise("format_map() takes a dict");
  Arguments named;
  for (const auto& [key, value] : bound[0].dict().entries)
    if (key.is_string()) named.named.emplace_back(key.text(), value);
  return text_value(evaluator, self, format_braces(evaluator, self.text(), named, self.string().markup));
}
bool is_ascii(int32_t code) { return code < 0x80; }
bool is_alphanumeric(int32_t code) { return is_letter(code) || is_numeral(code) || is_digit(code); }
Value isascii_method(Evaluator&, const Value& self, const Arguments&) {
  return Value::from(self.text().empty() || all_are(self.text(), is_ascii));
}
Value isprintable_method(Evaluator&, const Value& self, const Arguments&) {
  return Value::from(self.text().empty() || all_are(self.text(), is_printable));
}
Value unsupported(Evaluator&, const Value&, const Arguments&) {
  raise("this method of Python's texts is not supported in templates");
}

const std::map<std::string, StringMethod>& string_methods() {
  static const std::map<std::string, StringMethod> kMethods = {{"capitalize", changed<capitalize>},
                                                               {"casefold", changed<case_fold>},
                                                               {"center", justified<'^'>},
                                                               {"count", count_method},
                                                               {"encode", unsupported},
                                                               {"endswith", begins<true>},
                                                               {"expandtabs", expandtabs_method},
                                                               {"find", found<false, false>},
                                                               {"format", format_method},
                                                               {"format_map", format_map_method},
                                                               {"index", found<false, true>},
                                                               {"isalnum", all<is_alphanumeric>},
                                                               {"isalpha", all<is_letter>},
                                                               {"isascii", isascii_method},
                                                               {"isdecimal", all<is_decimal>},
                                                               {"isdigit", all<is_digit>},
                                                               {"isidentifier", whole<is_identifier>},
                                                               {"islower", whole<lower_text>},
                                                               {"isnumeric", all<is_numeral>},
                                                               {"isprintable", isprintable_method},
                                                               {"isspace", all<is_space>},
                                                               {"istitle", whole<title_text>},
                                                               {"isupper", whole<upper_text>},
                                                               {"join", join_method},
                                                               {"ljust", justified<'<'>},
                                                               {"lower", changed<lower>},
                                                               {"lstrip", stripped<Side::kLeft>},
                                                               {"maketrans", unsupported},
                                                               {"partition", partition_method<false>},
                                                               {"removeprefix", removed<false>},
                                                               {"removesuffix", removed<true>},
                                                               {"replace", replace_method},
                                                               {"rfind", found<true, false>},
                                                               {"rindex", found<true, true>},
                                                               {"rjust", justified<'>'>},
                                                               {"rpartition", partition_method<true>},
                                                               {"rsplit", split_method<true>},
                                                               {"rstrip", stripped<Side::kRight>},
                                                               {"split", split_method<false>},
                                                               {"splitlines", splitlines_method},
                                                               {"startswith", begins<false>},
                                                               {"strip", stripped<Side::kBoth>},
                                                               {"swapcase", changed<swap_case>},
                                                               {"title", changed<title>},
                                                               {"translate", unsupported},
                                                               {"upper", changed<upper>},
                                                               {"zfill", zfill_method}};
  return kMethods;
}

std::optional<Value> string_method(Heap& heap, const Value& object, const std::string& name) {
  const auto found = string_methods().find(name);
  if (found == string_methods().end()) return std::nullopt;
  return heap.function(name, [object, run = found->second](Evaluator& evaluator, Arguments& given) {
    evaluator.heap().charge(object.text().size());
    return run(evaluator, object, given);
  });
}

std::optional<Value> dict_method(Heap& heap, const Value& object, const std::string& name) {
  const Dict* dict = &object.dict();
  if (name == "get")
    return heap.function(name, [dict](Evaluator& evaluator, Arguments& given) {
      const Bound bound(given, "get", {"key", "default"}, 1);
      evaluator.heap().charge(bound[0].is_string() ? 0 : 16 * dict->entries.size());
      const Value* found = bound[0].is_undefined() ? nullptr : dict->find(bound[0]);
      return found != nullptr ? *found : bound.or_else(1, Value::none());
    });
  for (const auto& [view, part] : {std::pair{"keys", DictView::Part::kKeys},
                                   {"values", DictView::Part::kValues},
                                   {"items", DictView::Part::kItems}})
    if (name == view)
      return heap.function(name, [dict, part = part, name](Evaluator& evaluator, Arguments& given) {
        const Bound bound(given, name, {});
        auto* made = evaluator.heap().make<DictView>();
        made->part = part;
        made->dict = dict;
        return Value::of(Kind::kDictView, made);
      });
  if (name == "copy") return heap.function(name, [object](Evaluator&, Arguments&) { return object; });
  if (name == "fromkeys") return cycler_attribute(heap, Value::of(Kind::kDictClass), name);
  return std::nullopt;
}

std::optional<Value> list_method(Heap& heap, const Value& object, const std::string& name) {
  if (name == "index" || name == "count")
    return heap.function(name, [object, index = name == "index"](Evaluator& evaluator, Arguments& given) {
      const Bound bound(given, "index", {"value", "start", "stop"}, 1);
      const auto size = static_cast<int64_t>(object.items().size());
      const auto place = [&](size_t i, int64_t otherwise) {
        const int64_t value = bound.integer(i, otherwise);
        return value < 0 ? std::max<int64_t>(value + size, 0) : std::min(value, size);
      };
      int64_t count = 0;
      for (int64_t i = place(1, 0); i < place(2, size); ++i) {
        if (!equal(evaluator.heap(), object.items()[static_cast<size_t>(i)], bound[0])) continue;
        if (index) return Value::from(i);
        ++count;
      }
      if (index) raise(std::string("the value is not in ") + type_name(object));
      return Value::from(count);
    });
  if (name == "copy" && object.is(Kind::kList))
    return heap.function(name, [object](Evaluator&, Arguments&) { return object; });
  return std::nullopt;
}

std::optional<Value> number_method(Heap& heap, const Value& object, const std::string& name) {
  if (name == "real") return object.is(Kind::kBool) ? Value::from(object.as_integer()) : object;
  if (name == "imag") return object.is(Kind::kFloat) ? Value::from(0.0) : Value::from(int64_t{0});
  if (object.is_integral() && name == "numerator") return Value::from(object.as_integer());
  if (object.is_integral() && name == "denominator") return Value::from(int64_t{1});
  if (object.is(Kind::kFloat) && name == "is_integer")
    return heap.function(name, [object](Evaluator& evaluator, Arguments&) {
      return Value::from(
          equal(evaluator.heap(), binary(evaluator.heap(), "%", object, Value::from(1.0)), Value::from(0.0)));
    });
  static const std::vector<std::string> kOthers = {"as_integer_ratio", "bit_count", "bit_length", "conjugate",
                                                   "from_bytes",       "to_bytes",  "hex",        "fromhex"};
  if (std::find(kOthers.begin(), kOthers.end(), name) != kOthers.end())
    return heap.function(name, [](Evaluator&, Arguments&) -> Value {
      raise("this method of Python's numbers is not supported in templates");
    });
  return std::nullopt;
}

}  // namespace

std::optional<Value> method(Heap& heap, const Value& object, const std::string& name) {
  switch (object.kind) {
    case Kind::kString:
      return string_method(heap, object, name);
    case Kind::kDict:
      return dict_method(heap, object, name);
    case Kind::kList:
    case Kind::kTuple:
      return list_method(heap, object, name);
    case Kind::kBool:
    case Kind::kInteger:
    case Kind::kFloat:
      return number_method(heap, object, name);
    case Kind::kRange:
      if (name == "start" || name == "stop" || name == "step") {
        const auto& range = *static_cast<const Range*>(object.object);
        return Value::from(name == "start" ? range.start : name == "stop" ? range.stop : range.step);
      }
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

}  // namespace carillon::jinja
