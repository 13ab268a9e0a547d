// Renders randomly assembled and damaged templates with small limits until the time is up: every template must end with
// a text or a TemplateError. Usage: fuzz SECONDS SEED [FOLDER-WITH-TEMPLATES].
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "data/chat/chat_template.h"
#include "data/chat/json.h"
#include "data/chat/template.h"

namespace jinja = carillon::jinja;

namespace {

const char* const kPieces[] = {"{% for x in messages %}",
                               "{% endfor %}",
                               "{% if x is defined and x.content is string %}",
                               "{% else %}",
                               "{% elif n > 1 %}",
                               "{% endif %}",
                               "{{ x }}",
                               "{{ messages }}",
                               "{% set ns = namespace(a=1) %}",
                               "{% set ns.a = [ns.a, ns] %}",
                               "{{ ns }}",
                               "{{ ns.a }}",
                               "{% macro f(a, b=1) %}",
                               "{% endmacro %}",
                               "{{ f(f, x) }}",
                               "{{ f() }}",
                               "{% call f(1) %}",
                               "{% endcall %}",
                               "{{ caller() }}",
                               "{% generation %}",
                               "{% endgeneration %}",
                               "{% set x %}",
                               "{% endset %}",
                               "{% filter upper %}",
                               "{% endfilter %}",
                               "{% break %}",
                               "{% continue %}",
                               "{% raw %}",
                               "{% endraw %}",
                               "{# ",
                               " #}",
                               "{%- ",
                               " -%}",
                               "{{- ",
                               " -}}",
                               "{% with a = 1 %}",
                               "{% endwith %}",
                               "{{ messages | tojson(indent=2) }}",
                               "{{ messages | map(attribute='content') | list }}",
                               "{{ 'a' * 99999999999 }}",
                               "{{ [0] * 99999 }}",
                               "{{ range(100000) | list | length }}",
                               "{% set s = s ~ s %}",
                               "{% set m = m | map('upper') %}",
                               "{{ m | list }}",
                               "{{ x[1:][::-1] }}",
                               "{{ '%1000000d' % 5 }}",
                               "{{ '{:>99999999}'.format(1) }}",
                               "{{ 'a'.ljust(999999999) }}",
                               "{{ 'abc'.replace('', 'x' * 9999) }}",
                               "{{ (((((1))))) }}",
                               "{{ messages | sort(attribute='content') }}",
                               "{{ messages | groupby('role') }}",
                               "{% recursive %}",
                               "{% for y in [[1,[2]]] recursive %}",
                               "{{ loop(y) }}",
                               "{{ loop.index }}",
                               "{{ 9223372036854775807 + n }}",
                               "{{ 2 ** 63 }}",
                               "{{ -n // 0 }}",
                               "{{ n % -1 }}",
                               "{{ (0 - 9223372036854775807 - 1) // -1 }}",
                               "{{ x.split('') }}",
                               "{{ '\\U0010ffff\\x00' }}",
                               "{% block b %}",
                               "{% endblock %}",
                               "{{ self.b() }}",
                               "{{ messages[0].content.split(' ') | join('|') }}",
                               "{{ raise_exception('x') }}",
                               "{{ dict(a=1).items() }}",
                               "\xC3\xA9\xF0\x9F\x99\x82",
                               "{% for i in range(100000) %}",
                               "{{ 1 < 2 < n }}",
                               "{{ x if x else y }}",
                               "{{ not not n }}",
                               "{{ messages | batch(2) | list }}",
                               "{{ n | round(-400) }}",
                               "{{ 1e308 * 10 | int }}",
                               "{{ 'x' | int(base=1) }}",
                               "{{ {1: 2, 1.0: 3, true: 4} }}",
                               "{{ {} == {} }}",
                               "{{ n.real }}",
                               "{{ x.__class__ }}"};
const char* const kTokens[] = {"{{", "}}", "{%", "%}",  "(",   ")",  "[",    "]",        "{",  "}", ".",
                               ",",  ":",  "|",  "~",   "**",  "//", "'",    "\"",       "\\", " ", "\n",
                               "if", "in", "is", "not", "and", "or", "else", "for",      "x",  "n", "0",
                               "1e", "_",  "-",  "+",   "==",  "=",  "\xFF", "\xE2\x80", "\0"};

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  size_t below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }

  std::string pieces() {
    std::string text;
    // Half of the templates consist only of complete pieces, because few of the others parse.
    const bool whole = below(2) == 0;
    for (size_t count = 1 + below(14); count > 0; --count) {
      const std::string piece = kPieces[below(std::size(kPieces))];
      if (!whole || piece.ends_with("}}")) text += piece;
    }
    return text;
  }
  std::string nested() {
    const char* const opens[] = {"(",   "[",        "{'a':", "not ", "-", "x.", "{% if 1 %}", "{% for x in n %}",
                                 "1 +", "x|upper|", "f(",    "x if "};
    const std::string open = opens[below(std::size(opens))];
    std::string text = "{{ ";
    for (size_t count = below(4000); count > 0; --count) text += open;
    return text + " 1 }}";
  }
  void change(std::string& text) {
    for (size_t count = below(6); count > 0; --count) {
      const size_t at = below(text.size() + 1);
      switch (below(5)) {
        case 0:
          text.insert(at, kTokens[below(std::size(kTokens))]);
          break;
        case 1:
          text.erase(at, 1 + below(12));
          break;
        case 2:
          text.insert(at, kPieces[below(std::size(kPieces))]);
          break;
        case 3: {
          const std::string part = text.substr(at, below(60));
          text.insert(below(text.size() + 1), part);
          break;
        }
        default:
          if (at < text.size()) text[at] = static_cast<char>(random_());
      }
    }
  }

 private:
  std::mt19937_64 random_;
};

const char* const kRow =
    R"({"messages": [{"role": "user", "content": "a b <think>é</think>"}, {"role": "assistant", "content": [{"type": "text",
 "text": "c"}], "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5, null, true, 123456789012345678901234567890]}}}]}],
 "n": 3, "s": "aß", "tools": [{"name": "f"}]})";

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 64;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(arguments[1]));
  Mutator mutator(std::strtoull(arguments[2], nullptr, 10));
  std::vector<std::string> whole;
  if (count > 3)
    for (const auto& entry : std::filesystem::directory_iterator(arguments[3])) {
      std::ifstream file(entry.path());
      whole.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  int64_t runs = 0, rendered = 0, chats = 0;
  while (std::chrono::steady_clock::now() < end) {
    std::string source = mutator.below(20) == 0                    ? mutator.nested()
                         : !whole.empty() && mutator.below(3) == 0 ? whole[mutator.below(whole.size())]
                                                                   : mutator.pieces();
    if (mutator.below(3) > 0) mutator.change(source);
    std::string row = kRow;
    if (mutator.below(3) == 0) mutator.change(row);
    ++runs;
    bool cheap = false;  // conversations use the real limits
    jinja::Heap heap;
    try {
      const jinja::Value value = jinja::read_json(heap, row);
      std::vector<std::pair<std::string, jinja::Value>> variables;
      if (value.is(jinja::Kind::kDict))
        for (const auto& [key, entry] : value.dict().entries) variables.emplace_back(key.text(), entry);
      jinja::Limits limits;
      limits.steps = 300000;
      limits.output_bytes = 1 << 20;
      const jinja::Template parsed(source);
      if (parsed.render(variables, limits).text.size() > (1U << 20)) return 1;
      ++rendered;
      cheap = true;
    } catch (const jinja::TemplateError&) {
    } catch (const std::invalid_argument&) {
    }
    if (!cheap || runs % 4 != 0) continue;
    try {
      const auto chat = carillon::ChatTemplate::from_text("fuzz", source, "");
      const auto made = chat->render(row, carillon::TrainOn::kAssistant, "row");
      for (const auto& [from, to] : made.trained)
        if (from >= to || to > made.text.size()) return 1;
      ++chats;
    } catch (const std::runtime_error&) {
    }
  }
  std::cout << runs << " templates, " << rendered << " rendered, " << chats << " conversations\n";
  return 0;
}
