// A filter for the comparison with jinja2 (compare_with_jinja2.py). Each line of standard input is a JSON object with
// `template` and `variables`; each line of standard output has `text` and `spans`, or `error` with `line` and `column`.
#include <iostream>
#include <string>

#include "data/chat/json.h"
#include "data/chat/template.h"

namespace jinja = carillon::jinja;

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    jinja::Heap heap;
    const jinja::Value task = jinja::read_json(heap, line);
    auto* answer = heap.make<jinja::Dict>();
    const auto say = [&](const char* key, jinja::Value value) { answer->set(heap.string(key), value); };
    try {
      const jinja::Template parsed(task.dict().find("template")->text());
      std::vector<std::pair<std::string, jinja::Value>> variables;
      for (const auto& [key, value] : task.dict().find("variables")->dict().entries)
        variables.emplace_back(key.text(), value);
      const jinja::Rendered rendered = parsed.render(variables);
      say("text", heap.string(rendered.text));
      std::vector<jinja::Value> spans;
      for (const auto& [begin, end] : rendered.generated)
        spans.push_back(heap.list({jinja::Value::from(begin), jinja::Value::from(end)}));
      say("spans", heap.list(std::move(spans)));
    } catch (const jinja::TemplateError& error) {
      say("error", heap.string(error.what()));
      say("line", jinja::Value::from(int64_t{error.line}));
      say("column", jinja::Value::from(int64_t{error.column}));
    }
    std::cout << jinja::to_json(heap, jinja::Value::of(jinja::Kind::kDict, answer)) << std::endl;
  }
}
