// A Jinja template as Hugging Face's transformers runs it: ImmutableSandboxedEnvironment with trim_blocks and
// lstrip_blocks, loop controls, transformers' `tojson`, `raise_exception`, `strftime_now` and `{% generation %}`. A
// template cannot reach files, the network or other templates, and its steps, depth and output are bounded (value.h,
// Limits). README.md lists what of jinja2 is supported and what is refused.
//
// A template never changes after it is parsed, and many threads may render it at once.
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
  std::vector<Span> generated;  // code points written by `{% generation %}` blocks, in order of creation
};

class Template {
 public:
  // Throws TemplateError with line and column if the source is not a template.
  explicit Template(std::string_view source);

  // The values may be in another heap than the one used for rendering. Throws TemplateError with line and column if
  // rendering fails.
  Rendered render(const std::vector<std::pair<std::string, Value>>& variables, const Limits& limits = {}) const;

  // Whether it has `{% generation %}` blocks.
  bool marks_generation() const { return tree_->has_generation; }

 private:
  Heap constants_;
  std::unique_ptr<SyntaxTree> tree_;
};

}  // namespace carillon::jinja
