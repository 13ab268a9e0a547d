#include "data/chat/evaluator.h"
#include "data/chat/format.h"
#include "data/chat/text.h"

namespace carillon::jinja {
namespace {

class BraceFormatter {
 public:
  BraceFormatter(Evaluator& evaluator, const Arguments& arguments, bool escape)
      : evaluator_(evaluator), arguments_(arguments), escape_(escape) {}

  std::string format(std::string_view text, int depth) {
    if (depth > 1) raise("Max string recursion exceeded");
    evaluator_.heap().charge(text.size());
    std::string result;
    for (size_t at = 0; at < text.size();) {
      const char c = text[at];
      if (c != '{' && c != '}') {
        result += c;
        ++at;
        continue;
      }
      if (at + 1 < text.size() && text[at + 1] == c) {
        result += c;
        at += 2;
        continue;
      }
      if (c == '}') raise("Single '}' encountered in format string");
      size_t end = at + 1;
      for (int open = 1; end < text.size(); ++end) {
        if (text[end] == '[' && open == 1) {
          while (end < text.size() && text[end] != ']') ++end;
          if (end >= text.size()) break;
        }
        open += text[end] == '{' ? 1 : text[end] == '}' ? -1 : 0;
        if (open == 0) break;
      }
      if (end >= text.size())
        raise(at + 1 >= text.size() ? "Single '{' encountered in format string" : "expected '}' before end of string");
      result += field(text.substr(at + 1, end - at - 1), depth);
      at = end + 1;
    }
    return result;
  }

 private:
  std::string field(std::string_view text, int depth) {
    size_t end = 0;
    while (end < text.size() && text[end] != '!' && text[end] != ':') {
      if (text[end] == '[') end = std::min(text.find(']', end), text.size() - 1);
      ++end;
    }
    const std::string_view name = text.substr(0, end);
    char conversion = 0;
    if (end < text.size() && text[end] == '!') {
      if (end + 1 >= text.size()) raise("end of string while looking for conversion specifier");
      conversion = text[end + 1];
      end += 2;
      if (end < text.size() && text[end] != ':') raise("expected ':' after conversion specifier");
    }
    const std::string specification = end < text.size() ? format(text.substr(end + 1), depth + 1) : "";
    Heap& heap = evaluator_.heap();
    Value value = get(name);
    if (conversion == 's' || conversion == 'r') {
      value = heap.string(conversion == 's' ? to_text(heap, value) : representation(heap, value));
    } else if (conversion != 0) {
      raise(std::string("Unknown conversion specifier '") + conversion + "'");
    }
    std::string result;
    if (value.is_undefined() && !specification.empty())
      raise("unsupported format string passed to Undefined.__format__");
    result = format_value(heap, value, specification);
    return escape_ && !(value.is_string() && value.string().markup) ? escape_html(result) : result;
  }

  Value get(std::string_view name) {
    const size_t end = std::min(name.find_first_of(".["), name.size());
    const std::string first(name.substr(0, end));
    Value value;
    const bool number =
        !first.empty() && first.size() < 10 && first.find_first_not_of("0123456789") == std::string::npos;
    if (first.empty() || number) {
      if (first.empty() ? numbered_ : counted_ > 0)
        raise("cannot switch between automatic field numbering and manual field specification");
      numbered_ = numbered_ || number;
      const size_t index = number ? static_cast<size_t>(std::stoul(first)) : counted_++;
      if (index >= arguments_.positional.size())
        raise("Replacement index " + std::to_string(index) + " out of range for positional args tuple");
      value = arguments_.positional[index];
    } else {
      bool found = false;
      for (const auto& [known, given] : arguments_.named)
        if (known == first) value = given, found = true;
      if (!found) raise("there is no key " + string_representation(first));
    }
    Heap& heap = evaluator_.heap();
    for (size_t at = end; at < name.size();) {
      if (name[at] == '.') {
        const size_t stop = std::min(name.find_first_of(".[", at + 1), name.size());
        if (stop == at + 1) raise("Empty attribute in format string");
        value = evaluator_.attribute(value, std::string(name.substr(at + 1, stop - at - 1)));
        at = stop;
      } else if (name[at] == '[') {
        const size_t stop = name.find(']', at);
        if (stop == std::string_view::npos) raise("Missing ']' in format string");
        const std::string key(name.substr(at + 1, stop - at - 1));
        if (key.empty()) raise("Empty attribute in format string");
        const bool index = key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos;
        value = evaluator_.item(value, index ? Value::from(int64_t{std::stoll(key)}) : heap.string(key));
        at = stop + 1;
      } else {
        raise("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  Evaluator& evaluator_;
  const Arguments& arguments_;
  bool escape_;
  size_t counted_ = 0;
  bool numbered_ = false;
};

}  // namespace

std::string format_braces(Evaluator& evaluator, const std::string& text, const Arguments& arguments, bool escape) {
  return BraceFormatter(evaluator, arguments, escape).format(text, 0);
}

}  // namespace carillon::jinja
