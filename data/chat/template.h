// A Jinja template as Hugging Face's transformers runs it: ImmutableSandboxedEnvironment with trim_blocks and
// lstrip_blocks, loop controls, its own `tojson`, `raise_exception`, `strftime_now` and `{% generation %}`. No file, no
// network, no other template can be reached from it, and it is bounded in steps, depth and output (value.h, Limits).
// README.md says what of jinja2 there is, and what is refused.
//
// A template never changes once it is parsed, and may be rendered by many threads at once.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/chat/evaluator.h"
#include "data/chat/syntax.h"
#include "data/chat/value.h"

namespace carillon::jinja {

struct Rendered {
  std::string text;
  std::vector<Span> generated;  // code points of what `{% generation %}` blocks made, in the order they were made
};

class Template {
 public:
  // TemplateError with line and column for what is no template.
  explicit Template(std::string_view source);

  // The values may lie in another heap than the rendering's own. TemplateError with line and column for what goes
  // wrong.
  Rendered render(const std::vector<std::pair<std::string, Value>>& variables, const Limits& limits = {}) const;

  // Whether it has `{% generation %}` blocks.
  bool marks_generation() const { return tree_->has_generation; }

 private:
  Heap constants_;
  std::unique_ptr<SyntaxTree> tree_;
};

}  // namespace carillon::jinja
