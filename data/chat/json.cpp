#include "data/chat/json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/chat/text.h"

namespace carillon::jinja {
namespace {

constexpr size_t kDeepest = 500;

// Builds values from the events of the parser, which is not recursive either.
class Reader : public nlohmann::json_sax<nlohmann::ordered_json> {
 public:
  explicit Reader(Heap& heap) : heap_(heap) {}

  bool null() override { return put(Value::none()); }
  bool boolean(bool value) override { return put(Value::from(value)); }
  bool number_integer(int64_t value) override { return put(Value::from(value)); }
  bool number_unsigned(uint64_t value) override {
    return value <= INT64_MAX ? put(Value::from(static_cast<int64_t>(value))) : put(big(std::to_string(value)));
  }
  bool number_float(double value, const std::string& written) override {
    const bool whole = written.find_first_not_of("-0123456789") == std::string::npos;
    return put(whole ? big(written) : Value::from(value));
  }
  bool string(std::string& value) override { return put(heap_.string(std::move(value))); }
  bool binary(nlohmann::ordered_json::binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Value::of(Kind::kDict, heap_.make<Dict>())); }
  bool start_array(size_t) override { return open(heap_.list({})); }
  bool key(std::string& name) override {
    open_.back().key = heap_.string(std::move(name));
    return true;
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    error = "byte " + std::to_string(position);
    return false;
  }

  Value result;
  std::string error;

 private:
  struct Open {
    Value container;
    Value key;
  };

  Value big(std::string digits) {
    Value value = heap_.string(std::move(digits));
    value.kind = Kind::kBigInteger;
    return value;
  }
  bool open(Value container) {
    if (!put(container)) return false;
    open_.push_back({container, {}});
    if (open_.size() <= kDeepest) return true;
    error = "values nested more than " + std::to_string(kDeepest) + " deep";
    return false;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  bool put(Value value) {
    heap_.charge(sizeof(Value));
    if (open_.empty()) {
      result = value;
    } else if (open_.back().container.is(Kind::kDict)) {
      static_cast<Dict*>(open_.back().container.object)->set(open_.back().key, value);
    } else {
      static_cast<List*>(open_.back().container.object)->items.push_back(value);
    }
    return true;
  }

  Heap& heap_;
  std::vector<Open> open_;
};

void append_string(std::string& to, const std::string& text, bool ascii) {
  to += '"';
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    const size_t from = at;
    const int32_t code = next_character(text, at);
    char escape[16];
    if (c == '"' || c == '\\') {
      to += '\\';
      to += c;
    } else if (c == '\n') {
      to += "\\n";
    } else if (c == '\r') {
      to += "\\r";
    } else if (c == '\t') {
      to += "\\t";
    } else if (c == '\b') {
      to += "\\b";
    } else if (c == '\f') {
      to += "\\f";
    } else if (code < 0x20 || (ascii && code > 0x7E && code < 0x10000)) {
      if (code == 0x7F) {
        to += c;
        continue;
      }
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(code));
      to += escape;
    } else if (ascii && code >= 0x10000) {
      std::snprintf(escape, sizeof escape, "\\u%04x\\u%04x", static_cast<unsigned>(0xD800 + ((code - 0x10000) >> 10)),
                    static_cast<unsigned>(0xDC00 + ((code - 0x10000) & 0x3FF)));
      to += escape;
    } else {
      to.append(text, from, at - from);
    }
  }
  to += '"';
}

std::string float_json(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return float_text(value);
}

class Writer {
 public:
  Writer(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style) {}

  void write(const Value& value, int depth) {
    if (depth > 400) throw TemplateError(TemplateError::Reason::kLimit, "values are nested too deeply");
    const size_t before = text.size();
    switch (value.kind) {
      case Kind::kNone:
        text += "null";
        break;
      case Kind::kBool:
        text += value.boolean ? "true" : "false";
        break;
      case Kind::kInteger:
        text += std::to_string(value.integer);
        break;
      case Kind::kBigInteger:
        text += value.text();
        break;
      case Kind::kFloat:
        text += float_json(value.number);
        break;
      case Kind::kString:
        append_string(text, value.text(), style_.ascii);
        break;
      case Kind::kList:
      case Kind::kTuple: {
        list('[', ']', value.items().size(), depth, [&](size_t i) { write(value.items()[i], depth + 1); });
        return;
      }
      case Kind::kDict: {
        std::vector<std::pair<Value, Value>> entries = value.dict().entries;
        heap_.charge(entries.size() * 2 * sizeof(Value));
        if (style_.sort_keys)
          std::stable_sort(entries.begin(), entries.end(),
                           [&](const auto& a, const auto& b) { return less(heap_, a.first, b.first, "<"); });
        list('{', '}', entries.size(), depth, [&](size_t i) {
          append_string(text, key(entries[i].first), style_.ascii);
          text += style_.key_separator;
          write(entries[i].second, depth + 1);
        });
        return;
      }
      default:
        raise(std::string("Object of type ") + type_name(value) + " is not JSON serializable");
    }
    heap_.charge(text.size() - before);
  }

  std::string text;

 private:
  template <class Item>
  void list(char open, char close, size_t count, int depth, const Item& item) {
    heap_.charge();
    text += open;
    const auto line = [&](int deep) {
      if (!style_.lines) return;
      heap_.charge(style_.indent.size() * static_cast<size_t>(deep));
      text += '\n';
      for (int i = 0; i < deep; ++i) text += style_.indent;
    };
    for (size_t i = 0; i < count; ++i) {
      if (i > 0) text += style_.item_separator;
      line(depth + 1);
      item(i);
    }
    if (count > 0) line(depth);
    text += close;
  }
  std::string key(const Value& value) {
    switch (value.kind) {
      case Kind::kString:
        return value.text();
      case Kind::kNone:
        return "null";
      case Kind::kBool:
        return value.boolean ? "true" : "false";
      case Kind::kInteger:
        return std::to_string(value.integer);
      case Kind::kFloat:
        return float_json(value.number);
      default:
        raise(std::string("keys must be str, int, float, bool or None, not ") + type_name(value));
    }
  }

  Heap& heap_;
  const JsonStyle& style_;
};

}  // namespace

Value read_json(Heap& heap, std::string_view text) {
  Reader reader(heap);
  if (!nlohmann::ordered_json::sax_parse(text.begin(), text.end(), &reader)) throw std::invalid_argument(reader.error);
  return reader.result;
}

std::string to_json(Heap& heap, const Value& value, const JsonStyle& style) {
  Writer writer(heap, style);
  writer.write(value, 0);
  return std::move(writer.text);
}

}  // namespace carillon::jinja
