#include "data/chat/template.h"

#include <ctime>

#include "data/chat/parser.h"

namespace carillon::jinja {

Template::Template(std::string_view source) : tree_(parse(source, constants_)) {}

Rendered Template::render(const std::vector<std::pair<std::string, Value>>& variables, const Limits& limits) const {
  Heap heap(limits.steps);
  Evaluator evaluator(heap, *tree_, variables, limits, static_cast<int64_t>(std::time(nullptr)));
  Rendered rendered;
  rendered.text = evaluator.run();
  rendered.generated = evaluator.spans();
  return rendered;
}

}  // namespace carillon::jinja
