// Runs a parsed template on given values. All intermediate values are allocated in the Heap, whose steps bound the
// time. The output and the nesting depth have separate bounds, so that no template exhausts the stack.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "data/chat/syntax.h"
#include "data/chat/value.h"

namespace carillon::jinja {

// The variables of a scope at run time; a macro keeps the scope in which it was made.
struct Variables : Object {
  Variables* outer = nullptr;
  std::vector<Value> slots;
};

struct Macro : Object {
  const Statement* node = nullptr;
  Variables* outer = nullptr;
  std::string name;  // empty for a caller
};

struct Loop : Object {
  Value iterable;
  Next next;
  Value after, current, before, changed;  // kMissing: none
  int64_t index0 = -1;
  int64_t depth0 = 0;
  int64_t length = -1;
  const Statement* node = nullptr;  // if the loop is recursive
  Variables* outer = nullptr;
};

// Code points [begin, end) of the output that a `{% generation %}` block wrote.
using Span = std::pair<int64_t, int64_t>;

class Evaluator {
 public:
  // `variables` are given to the template in addition to the globals of jinja2 and transformers. `now` is in seconds
  // since 1970, for strftime_now.
  Evaluator(Heap& heap, const SyntaxTree& tree, const std::vector<std::pair<std::string, Value>>& variables,
            const Limits& limits, int64_t now);

  // Throws TemplateError with a position if the template fails or exceeds a bound.
  std::string run();
  const std::vector<Span>& spans() const { return spans_; }

  Heap& heap() { return heap_; }
  int64_t now() const { return now_; }
  Value call(const Value& callee, Arguments& arguments);
  // obj.name and obj[key] as the sandbox returns them: undefined if there is no such member; a method that would change
  // a list or dict is an undefined whose call says so.
  Value attribute(const Value& object, const std::string& name);
  Value item(const Value& object, const Value& key);
  Value slice(const Value& object, const Value& start, const Value& stop, const Value& step);

 private:
  enum class Flow { kOn, kBreak, kContinue };

  // statements.cpp
  Flow run(const Body& body);
  Flow run(const Statement& node);
  Flow run_for(const Statement& node);
  Flow run_loop(const Statement& node, const Value& iterable, int64_t depth0);
  Flow run_set_block(const Statement& node);
  void run_call(const Statement& node);
  void run_generation(const Statement& node);
  void run_block(const Statement& node);
  Value make_macro(const Statement& node);
  Value call_macro(const Macro& macro, Arguments& arguments);
  Value call_loop(Loop& loop, Arguments& arguments);
  Value block_reference(const std::string& name);
  std::string captured(const Body& body, Flow& flow);
  void print(const std::string& text);
  void print_text(const Value& value);
  void assign(const Expression& target, const Value& value, int offset = 0);
  Variables* enter(const Scope& scope, Variables* outer);
  void load(const Scope& scope, Variables& variables);
  void leave(const Scope& scope, Variables& variables) const;
  Value& at(const Place& place) const;
  Value resolve(const std::string& name) const;

  // expressions.cpp
  Value evaluate(const Expression& node);
  Value evaluate_compare(const Expression& node);
  Value evaluate_call(const Expression& node, const Value* caller);
  Value evaluate_filter(const Expression& node, const std::string* body);
  Arguments arguments(const CallArguments& given);
  std::optional<Value> own_attribute(const Value& object, const std::string& name);
  Value loop_attribute(Loop& loop, const std::string& name);

  struct Depth {
    explicit Depth(Evaluator& of);
    ~Depth() { --evaluator.depth_; }
    Evaluator& evaluator;
  };

  Heap& heap_;
  const SyntaxTree& tree_;
  Limits limits_;
  int64_t now_;
  std::unordered_map<std::string, Value> given_;    // variables and globals
  std::unordered_map<std::string, Value> context_;  // set by the template at its top level
  Variables* top_ = nullptr;
  Variables* variables_ = nullptr;
  std::string output_;
  int64_t output_characters_ = 0;
  std::string* buffer_ = nullptr;  // where to print; nullptr: the output
  std::vector<Span> spans_;
  int depth_ = 0;
  Position position_;
};

// methods.cpp: a method of str, list, tuple or dict, bound to `object`; nothing if Python has no such method.
std::optional<Value> method(Heap& heap, const Value& object, const std::string& name);
// globals.cpp
std::vector<std::pair<std::string, Value>> globals(Heap& heap);
Value cycler_attribute(Heap& heap, const Value& object, const std::string& name);

}  // namespace carillon::jinja
