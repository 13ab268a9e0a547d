#include "data/chat/filters.h"

#include <algorithm>
#include <cmath>

#include "data/chat/arguments.h"
#include "data/chat/format.h"
#include "data/chat/json.h"
#include "data/chat/numbers.h"
#include "data/chat/operators.h"
#include "data/chat/text.h"

namespace carillon::jinja {
namespace {

using Given = Arguments;

// soft_str: a Markup stays a Markup.
Value soft(Evaluator& evaluator, const Value& value) {
  return value.is_string() ? value : evaluator.heap().string(to_text(evaluator.heap(), value));
}
Value same_kind(Evaluator& evaluator, const Value& like, std::string text) {
  return evaluator.heap().string(std::move(text), like.string().markup);
}

Value to_json_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound.flag(0, false);
  style.sort_keys = bound.flag(3, false);
  const Value indent = bound.or_else(1, Value::none()), separators = bound.or_else(2, Value::none());
  if (!indent.is(Kind::kNone)) {
    style.lines = true;
    style.item_separator = ",";
    style.indent = indent.is_string()
                       ? indent.text()
                       : to_text(evaluator.heap(), binary(evaluator.heap(), "*", evaluator.heap().string(" "), indent));
  }
  if (!separators.is(Kind::kNone)) {
    const std::vector<Value> pair = to_vector(evaluator.heap(), separators);
    if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) raise("separators must be two texts");
    style.item_separator = pair[0].text();
    style.key_separator = pair[1].text();
  }
  return evaluator.heap().string(to_json(evaluator.heap(), value, style));
}

Value abs_filter(Evaluator&, const Value& value, Given& given) {
  const Bound bound(given, "abs", {});
  if (value.is_undefined() || !value.is_number())
    raise(std::string("bad operand type for abs(): '") + type_name(value) + "'");
  if (value.is(Kind::kFloat)) return Value::from(std::fabs(value.number));
  return value.as_integer() < 0 ? unary("-", value) : Value::from(value.as_integer());
}
Value attr_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "attr", {"name"}, 1);
  const std::string& name = bound.text(0);
  if (value.is_undefined()) raise_undefined(value);
  // Entries of a dict are not attributes.
  if (value.is(Kind::kDict) && !method(evaluator.heap(), value, name))
    return evaluator.heap().undefined("'dict object' has no attribute '" + name + "'");
  return evaluator.attribute(value, name);
}
Value default_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "default", {"default_value", "boolean"});
  if (value.is_undefined() || (bound.flag(1, false) && !truth(value)))
    return bound.has(0) ? bound[0] : evaluator.heap().string("");
  return value;
}
Value escape_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "escape", {});
  if (value.is_string() && value.string().markup) return value;
  return evaluator.heap().string(escape_html(to_text(evaluator.heap(), value)), true);
}
Value force_escape_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "forceescape", {});
  return evaluator.heap().string(escape_html(to_text(evaluator.heap(), value)), true);
}
Value safe_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "safe", {});
  return evaluator.heap().string(to_text(evaluator.heap(), value), true);
}
Value string_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "string", {});
  return soft(evaluator, value);
}
Value upper_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "upper", {});
  const Value text = soft(evaluator, value);
  return same_kind(evaluator, text, upper(text.text()));
}
Value lower_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "lower", {});
  const Value text = soft(evaluator, value);
  return same_kind(evaluator, text, lower(text.text()));
}
Value capitalize_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "capitalize", {});
  const Value text = soft(evaluator, value);
  return same_kind(evaluator, text, capitalize(text.text()));
}
Value title_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "title", {});
  const Value text = soft(evaluator, value);
  // A word begins after one of: - white space ( { [ <
  std::string result;
  std::string word;
  const auto flush = [&] {
    if (word.empty()) return;
    size_t first = 0;
    next_character(word, first);
    result += upper(word.substr(0, first)) + lower(word.substr(first));
    word.clear();
  };
  const std::string& whole = text.text();
  for (size_t at = 0; at < whole.size();) {
    const size_t from = at;
    const int32_t code = next_character(whole, at);
    if (is_space(code) || code == '-' || code == '(' || code == '{' || code == '[' || code == '<') {
      flush();
      result += upper(whole.substr(from, at - from));
    } else {
      word += whole.substr(from, at - from);
    }
  }
  flush();
  return evaluator.heap().string(std::move(result));
}
Value trim_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "trim", {"chars"});
  const Value text = soft(evaluator, value);
  std::optional<std::string_view> characters;
  if (bound.has(0) && !bound[0].is(Kind::kNone)) characters = bound.text(0);
  return same_kind(evaluator, text, std::string(strip(text.text(), Side::kBoth, characters)));
}
Value replace_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "replace", {"old", "new", "count"}, 2);
  Heap& heap = evaluator.heap();
  const std::string text = to_text(heap, value), old = to_text(heap, bound[0]), fresh = to_text(heap, bound[1]);
  const int64_t count = bound.or_else(2, Value::none()).is(Kind::kNone) ? -1 : bound.integer(2, -1);
  return heap.string(bounded_replace(heap, text, old, fresh, count));
}
Value center_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "center", {"width"});
  const Value text = soft(evaluator, value);
  return same_kind(evaluator, text, padded(evaluator.heap(), text.text(), bound.integer(0, 80), ' ', '^', true));
}
Value format_filter(Evaluator& evaluator, const Value& value, Given& given) {
  if (!given.positional.empty() && !given.named.empty())
    raise("can't handle positional and keyword arguments at the same time");
  Heap& heap = evaluator.heap();
  Value arguments = heap.tuple(given.positional);
  if (!given.named.empty()) {
    auto* dict = heap.make<Dict>();
    for (const auto& [name, argument] : given.named) dict->set(heap.string(name), argument);
    arguments = Value::of(Kind::kDict, dict);
  }
  const Value text = soft(evaluator, value);
  return same_kind(evaluator, text, format_percent(heap, text, arguments));
}
Value indent_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "indent", {"width", "first", "blank"});
  Heap& heap = evaluator.heap();
  if (value.is_undefined()) raise_undefined(value);
  if (!value.is_string())
    raise(std::string("unsupported operand type(s) for +=: '") + type_name(value) + "' and 'str'");
  const std::string indent =
      bound.has(0) && bound[0].is_string() ? bound.text(0) : padded(heap, "", bound.integer(0, 4), ' ', '<', false);
  const bool first = bound.flag(1, false), blank = bound.flag(2, false);
  const std::string text = value.text() + "\n";
  const auto lines = split_lines(text, false);
  heap.charge(text.size());
  std::string result;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) result += '\n';
    if (i > 0 && (blank || !lines[i].empty())) {
      heap.charge(indent.size());
      result += indent;
    }
    result += lines[i];
  }
  return same_kind(evaluator, value, first ? indent + result : result);
}
Value truncate_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "truncate", {"length", "killwords", "end", "leeway"});
  Heap& heap = evaluator.heap();
  if (value.is_undefined()) {
    // It has length 0, which needs no truncation.
    return value;
  }
  const int64_t size = bound.integer(0, 255);
  const Value end = bound.or_else(2, heap.string("..."));
  if (!end.is_string()) raise("the end of truncate must be a text");
  const int64_t leeway = bound.or_else(3, Value::none()).is(Kind::kNone) ? 5 : bound.integer(3, 5);
  if (size < end.string().length)
    raise("expected length >= " + std::to_string(end.string().length) + ", got " + std::to_string(size));
  if (leeway < 0) raise("expected leeway >= 0, got " + std::to_string(leeway));
  const auto whole = length(heap, value);
  if (!whole) raise(std::string("object of type '") + type_name(value) + "' has no len()");
  if (*whole <= size + leeway) return value;
  if (!value.is_string()) raise("truncate takes a text");
  std::string_view text = value.text();
  text = text.substr(0, byte_offset(text, size - end.string().length));
  if (!bound.flag(1, false))
    if (const size_t space = text.rfind(' '); space != std::string_view::npos) text = text.substr(0, space);
  return heap.string(std::string(text) + end.text(), value.string().markup);
}
Value wordcount_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "wordcount", {});
  const Value text = soft(evaluator, value);
  int64_t count = 0;
  bool inside = false;
  for (size_t at = 0; at < text.text().size();) {
    const bool word = is_word_character(next_character(text.text(), at));
    count += word && !inside;
    inside = word;
  }
  return Value::from(count);
}
Value striptags_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "striptags", {});
  std::string text = to_text(evaluator.heap(), value);
  evaluator.heap().charge(text.size());
  // Removes comments, then tags, like markupsafe; then every run of white space becomes one space.
  const auto cut = [&](std::string_view open, std::string_view close) {
    std::string kept;
    size_t from = 0;
    for (size_t begin; (begin = text.find(open, from)) != std::string::npos;) {
      const size_t end = text.find(close, begin);
      if (end == std::string::npos) break;
      kept.append(text, from, begin - from);
      from = end + close.size();
    }
    text = kept.append(text, from);
  };
  cut("<!--", "-->");
  cut("<", ">");
  std::string joined;
  for (const std::string_view word : split(text, std::nullopt, -1))
    joined += (joined.empty() ? "" : " ") + std::string(word);
  static const std::pair<const char*, const char*> kEntities[] = {{"&lt;", "<"},    {"&gt;", ">"},  {"&#34;", "\""},
                                                                  {"&quot;", "\""}, {"&#39;", "'"}, {"&amp;", "&"}};
  std::string result;
  for (size_t at = 0; at < joined.size();) {
    bool found = false;
    for (const auto& [entity, plain] : kEntities) {
      if (joined.compare(at, std::string_view(entity).size(), entity) != 0) continue;
      result += plain;
      at += std::string_view(entity).size();
      found = true;
      break;
    }
    if (!found) result += joined[at++];
  }
  return evaluator.heap().string(std::move(result));
}

Value int_filter(Evaluator&, const Value& value, Given& given) {
  const Bound bound(given, "int", {"default", "base"});
  const Value otherwise = bound.or_else(0, Value::from(int64_t{0}));
  if (value.is_undefined()) raise_undefined(value);
  if (value.is(Kind::kBigInteger)) return value;
  if (value.is_integral()) return Value::from(value.as_integer());
  std::optional<double> number;
  if (value.is_string()) {
    if (const auto parsed = parse_integer(value.text(), bound.integer(1, 10))) return Value::from(*parsed);
    number = parse_float(value.text());
    if (number && !std::isfinite(*number)) return otherwise;
  } else if (value.is(Kind::kFloat)) {
    number = value.number;
    if (std::isinf(*number)) raise("cannot convert float infinity to integer");
    if (std::isnan(*number)) return otherwise;
  }
  if (!number) return otherwise;
  if (std::fabs(*number) >= 9.2e18) raise("an integer beyond 64 bits");
  return Value::from(static_cast<int64_t>(*number));
}
Value float_filter(Evaluator&, const Value& value, Given& given) {
  const Bound bound(given, "float", {"default"});
  if (value.is_undefined()) raise_undefined(value);
  if (value.is_number()) return Value::from(value.as_double());
  if (value.is_string() || value.is(Kind::kBigInteger))
    if (const auto number = parse_float(value.text())) return Value::from(*number);
  return bound.or_else(0, Value::from(0.0));
}
Value round_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "round", {"precision", "method"});
  const std::string how = bound.has(1) ? bound.text(1) : "common";
  if (how != "common" && how != "ceil" && how != "floor") raise("method must be common, ceil or floor");
  const int64_t precision = bound.integer(0, 0);
  if (value.is_undefined()) raise_undefined(value);
  if (!value.is_number()) raise(std::string("type ") + type_name(value) + " doesn't define __round__ method");
  if (how == "common") {
    if (value.is(Kind::kFloat)) return Value::from(rounded(value.number, precision));
    if (precision >= 0) return Value::from(value.as_integer());
    raise("rounding an integer to less than ones is not supported");
  }
  Heap& heap = evaluator.heap();
  const Value scale = binary(heap, "**", Value::from(int64_t{10}), Value::from(precision));
  const Value scaled = binary(heap, "*", value, scale);
  Value whole = scaled;
  if (scaled.is(Kind::kFloat)) {
    const double cut = how == "ceil" ? std::ceil(scaled.number) : std::floor(scaled.number);
    if (!(std::fabs(cut) < 9.2e18)) raise("an integer beyond 64 bits");
    whole = Value::from(static_cast<int64_t>(cut));
  }
  return binary(heap, "/", whole, scale);
}
Value filesizeformat_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "filesizeformat", {"binary"});
  const bool binary = bound.flag(0, false);
  std::optional<double> bytes;
  if (value.is_undefined()) raise_undefined(value);
  if (value.is_number()) bytes = value.as_double();
  if (value.is_string()) bytes = parse_float(value.text());
  if (!bytes || std::isnan(*bytes)) raise("could not convert to float");
  const double base = binary ? 1024 : 1000;
  if (*bytes == 1) return evaluator.heap().string("1 Byte");
  if (*bytes < base) {
    if (std::isinf(*bytes)) raise("cannot convert float infinity to integer");
    return evaluator.heap().string(std::to_string(static_cast<int64_t>(std::max(*bytes, -9.2e18))) + " Bytes");
  }
  double unit = base;
  char text[64] = "";
  for (const char prefix : std::string_view("KMGTPEZY")) {
    unit *= base;
    std::snprintf(text, sizeof text, "%.1f %c%s", base * *bytes / unit, prefix == 'K' && !binary ? 'k' : prefix,
                  binary ? "iB" : "B");
    if (*bytes < unit) break;
  }
  return evaluator.heap().string(text);
}
Value urlencode_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "urlencode", {});
  Heap& heap = evaluator.heap();
  const auto quoted = [&](const Value& part, bool query) {
    std::string result;
    for (const char c : to_text(heap, part)) {
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
      if (letter || c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !query)) {
        result += c;
      } else if (c == ' ' && query) {
        result += '+';
      } else {
        char escape[4];
        std::snprintf(escape, sizeof escape, "%%%02X", static_cast<unsigned>(static_cast<unsigned char>(c)));
        result += escape;
      }
    }
    return result;
  };
  if (value.is_string() || !is_iterable(value)) return heap.string(quoted(value, false));
  std::string result;
  std::vector<Value> pairs;
  if (value.is(Kind::kDict))
    for (const auto& [key, entry] : value.dict().entries) pairs.push_back(heap.tuple({key, entry}));
  else
    pairs = to_vector(heap, value);
  for (size_t i = 0; i < pairs.size(); ++i) {
    const std::vector<Value> pair = to_vector(heap, pairs[i]);
    if (pair.size() != 2) raise("urlencode takes pairs");
    result += (i > 0 ? "&" : "") + quoted(pair[0], true) + "=" + quoted(pair[1], true);
  }
  return heap.string(std::move(result));
}
Value xmlattr_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "xmlattr", {"autospace"});
  if (value.is_undefined()) raise_undefined(value);
  if (!value.is(Kind::kDict)) raise("xmlattr takes a dict");
  std::string result;
  for (const auto& [key, entry] : value.dict().entries) {
    if (entry.is(Kind::kNone) || entry.is_undefined()) continue;
    if (!key.is_string()) raise("xmlattr takes texts as keys");
    for (const char c : key.text())
      if (c == '/' || c == '>' || c == '=' || c == ' ' || (c >= 9 && c <= 13))
        raise("Invalid character in attribute name: " + string_representation(key.text()));
    const std::string text =
        entry.is_string() && entry.string().markup ? entry.text() : escape_html(to_text(evaluator.heap(), entry));
    result += (result.empty() ? "" : " ") + (key.string().markup ? key.text() : escape_html(key.text())) + "=\"" +
              text + "\"";
  }
  if (bound.flag(0, true) && !result.empty()) result = " " + result;
  return evaluator.heap().string(std::move(result));
}
Value length_filter(Evaluator& evaluator, const Value& value, Given& given) {
  const Bound bound(given, "length", {});
  if (value.is(Kind::kLoop)) return evaluator.attribute(value, "length");
  const auto size = length(evaluator.heap(), value);
  if (!size) raise(std::string("object of type '") + type_name(value) + "' has no len()");
  return Value::from(*size);
}

bool known_elsewhere(const std::string& name) {
  return name == "random" || name == "pprint" || name == "urlize" || name == "wordwrap";
}

}  // namespace

const std::unordered_map<std::string, Filter>& text_filters() {
  static const std::unordered_map<std::string, Filter> kFilters = {{"abs", abs_filter},
                                                                   {"attr", attr_filter},
                                                                   {"capitalize", capitalize_filter},
                                                                   {"center", center_filter},
                                                                   {"count", length_filter},
                                                                   {"d", default_filter},
                                                                   {"default", default_filter},
                                                                   {"e", escape_filter},
                                                                   {"escape", escape_filter},
                                                                   {"filesizeformat", filesizeformat_filter},
                                                                   {"float", float_filter},
                                                                   {"forceescape", force_escape_filter},
                                                                   {"format", format_filter},
                                                                   {"indent", indent_filter},
                                                                   {"int", int_filter},
                                                                   {"length", length_filter},
                                                                   {"lower", lower_filter},
                                                                   {"replace", replace_filter},
                                                                   {"round", round_filter},
                                                                   {"safe", safe_filter},
                                                                   {"string", string_filter},
                                                                   {"striptags", striptags_filter},
                                                                   {"title", title_filter},
                                                                   {"tojson", to_json_filter},
                                                                   {"trim", trim_filter},
                                                                   {"truncate", truncate_filter},
                                                                   {"upper", upper_filter},
                                                                   {"urlencode", urlencode_filter},
                                                                   {"wordcount", wordcount_filter},
                                                                   {"xmlattr", xmlattr_filter}};
  return kFilters;
}

bool is_filter(const std::string& name) { return text_filters().contains(name) || sequence_filters().contains(name); }

std::string unknown_filter(const std::string& name) {
  return known_elsewhere(name) ? "the filter '" + name + "' of jinja2 is not supported here"
                               : "No filter named '" + name + "'.";
}

Value apply_filter(Evaluator& evaluator, const std::string& name, const Value& value, Arguments& arguments) {
  for (const auto* filters : {&text_filters(), &sequence_filters()}) {
    const auto found = filters->find(name);
    if (found == filters->end()) continue;
    evaluator.heap().charge(value.is_string() ? value.text().size() : 0);
    return found->second(evaluator, value, arguments);
  }
  throw TemplateError(TemplateError::Reason::kUnknownName, unknown_filter(name));
}

}  // namespace carillon::jinja
