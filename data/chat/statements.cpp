#include <algorithm>

#include "data/chat/evaluator.h"
#include "data/chat/filters.h"
#include "data/chat/text.h"

namespace carillon::jinja {

Evaluator::Depth::Depth(Evaluator& of) : evaluator(of) {
  if (++evaluator.depth_ > evaluator.limits_.depth) {
    --evaluator.depth_;
    throw TemplateError(TemplateError::Reason::kLimit, "the template calls itself too deeply");
  }
}

Evaluator::Evaluator(Heap& heap, const SyntaxTree& tree, const std::vector<std::pair<std::string, Value>>& variables,
                     const Limits& limits, int64_t now)
    : heap_(heap), tree_(tree), limits_(limits), now_(now) {
  for (auto& [name, value] : globals(heap)) given_[name] = value;
  for (const auto& [name, value] : variables) given_[name] = value;
}

std::string Evaluator::run() {
  try {
    variables_ = top_ = enter(tree_.scope, nullptr);
    if (tree_.self_slot >= 0) {
      auto* self = heap_.make<Dict>();
      for (const auto& [name, node] : tree_.blocks)
        self->set(heap_.string(name), heap_.function(name, [name = name](Evaluator& evaluator, Arguments&) {
          return evaluator.block_reference(name);
        }));
      variables_->slots[static_cast<size_t>(tree_.self_slot)] = Value::of(Kind::kDict, self);
    }
    run(tree_.body);
  } catch (TemplateError& error) {
    if (error.line == 0) {
      error.line = position_.line;
      error.column = position_.column;
    }
    throw;
  }
  return std::move(output_);
}

void Evaluator::print(const std::string& text) {
  heap_.charge(text.size());
  std::string& to = buffer_ == nullptr ? output_ : *buffer_;
  if (static_cast<int64_t>(to.size() + text.size()) > limits_.output_bytes)
    throw TemplateError(TemplateError::Reason::kLimit, "the template makes more text than is allowed");
  to += text;
  if (buffer_ == nullptr) output_characters_ += code_points(text);
}

// A filter or call block prints its result only if that is a text; other types are not converted.
void Evaluator::print_text(const Value& value) {
  if (!value.is_string())
    raise(std::string("a block gives a value of type '") + type_name(value) + "', which is no text");
  print(value.text());
}

Value& Evaluator::at(const Place& place) const {
  Variables* variables = variables_;
  for (int hops = place.hops; hops > 0; --hops) variables = variables->outer;
  return variables->slots[static_cast<size_t>(place.slot)];
}

Value Evaluator::resolve(const std::string& name) const {
  if (const auto found = context_.find(name); found != context_.end()) return found->second;
  if (const auto found = given_.find(name); found != given_.end()) return found->second;
  return {};
}

void Evaluator::load(const Scope& scope, Variables& variables) {
  heap_.charge(16 * scope.loads.size());
  for (const Scope::Load& load : scope.loads) {
    Value& slot = variables.slots[static_cast<size_t>(load.slot)];
    if (load.from == Scope::Load::From::kContext) {
      slot = resolve(load.name);
    } else if (load.from == Scope::Load::From::kOuter) {
      const Variables* from = &variables;
      for (int hops = load.outer.hops; hops > 0; --hops) from = from->outer;
      slot = from->slots[static_cast<size_t>(load.outer.slot)];
    } else {
      slot = {};
    }
  }
}

Variables* Evaluator::enter(const Scope& scope, Variables* outer) {
  heap_.charge(static_cast<size_t>(scope.slots) * sizeof(Value));
  auto* variables = heap_.make<Variables>();
  variables->outer = outer;
  variables->slots.resize(static_cast<size_t>(scope.slots));
  load(scope, *variables);
  return variables;
}

void Evaluator::leave(const Scope& scope, Variables& variables) const {
  for (const Scope::Load& load : scope.loads) variables.slots[static_cast<size_t>(load.slot)] = {};
}

namespace {
// Sets a value and restores the old one at the end of the scope, also after an exception.
template <class T>
class Restore {
 public:
  Restore(T& place, T value) : place_(place), before_(std::exchange(place, value)) {}
  ~Restore() { place_ = before_; }

 private:
  T& place_;
  T before_;
};
}  // namespace

std::string Evaluator::captured(const Body& body, Flow& flow) {
  std::string text;
  const Restore<std::string*> restore(buffer_, &text);
  flow = run(body);
  return text;
}

Evaluator::Flow Evaluator::run(const Body& body) {
  for (const auto& statement : body)
    if (const Flow flow = run(*statement); flow != Flow::kOn) return flow;
  return Flow::kOn;
}

Evaluator::Flow Evaluator::run(const Statement& node) {
  const Depth depth(*this);
  heap_.charge();
  position_ = node.position;
  switch (node.kind) {
    case Statement::Kind::kOutput:
      for (const auto& part : node.expressions) {
        const Value value = evaluate(*part);
        position_ = part->position;
        print(value.is_string() ? value.text() : to_text(heap_, value));
      }
      return Flow::kOn;
    case Statement::Kind::kIf:
      for (size_t i = 0; i < node.expressions.size(); ++i)
        if (truth(evaluate(*node.expressions[i]))) return run(node.bodies[i]);
      return node.bodies.size() > node.expressions.size() ? run(node.bodies.back()) : Flow::kOn;
    case Statement::Kind::kFor:
      return run_for(node);
    case Statement::Kind::kSet: {
      const Value value = evaluate(*node.expressions[0]);
      position_ = node.position;
      assign(*node.target, value);
      return Flow::kOn;
    }
    case Statement::Kind::kSetBlock:
      return run_set_block(node);
    case Statement::Kind::kMacro: {
      const Value macro = make_macro(node);
      at(node.place) = macro;
      if (node.top_level) context_[node.name] = macro;
      return Flow::kOn;
    }
    case Statement::Kind::kCall:
      run_call(node);
      return Flow::kOn;
    case Statement::Kind::kGeneration:
      run_generation(node);
      return Flow::kOn;
    case Statement::Kind::kFilter: {
      const Restore<Variables*> restore(variables_, enter(node.scopes[0], variables_));
      Flow flow;
      const std::string text = captured(node.bodies[0], flow);
      if (flow != Flow::kOn) return flow;
      print_text(evaluate_filter(*node.expressions[0], &text));
      return Flow::kOn;
    }
    case Statement::Kind::kWith: {
      std::vector<Value> values;
      Variables* inner = enter(node.scopes[0], variables_);
      for (const auto& part : node.expressions) values.push_back(evaluate(*part));
      const Restore<Variables*> restore(variables_, inner);
      for (size_t i = 0; i < values.size(); ++i) assign(*node.targets[i], values[i]);
      return run(node.bodies[0]);
    }
    case Statement::Kind::kBlock:
      run_block(node);
      return Flow::kOn;
    case Statement::Kind::kBreak:
      return Flow::kBreak;
    case Statement::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kOn;
}

// offset: added to the slots of the target, if this scope's slots differ from those the target was resolved in.
void Evaluator::assign(const Expression& target, const Value& value, int offset) {
  heap_.charge();
  switch (target.kind) {
    case Expression::Kind::kName:
      at({target.place.hops, target.place.slot + offset}) = value;
      // Variables of the top level belong to the template and are visible to blocks.
      if (variables_ == top_ && target.place.hops == 0) context_[target.text] = value;
      return;
    case Expression::Kind::kNamespaceTarget: {
      const Value object = at(target.parts[0]->place);
      if (!object.is(Kind::kNamespace)) raise("cannot assign attribute on non-namespace object");
      heap_.charge(16 * static_cast<Namespace*>(object.object)->attributes.size());
      static_cast<Namespace*>(object.object)->set(target.text, value);
      return;
    }
    default: {
      std::vector<Value> items;
      const Next next = iterate(heap_, value);
      for (Value item; next(item);) {
        items.push_back(item);
        if (items.size() > target.parts.size())
          raise("too many values to unpack (expected " + std::to_string(target.parts.size()) + ")");
      }
      if (items.size() < target.parts.size())
        raise("not enough values to unpack (expected " + std::to_string(target.parts.size()) + ", got " +
              std::to_string(items.size()) + ")");
      for (size_t i = 0; i < items.size(); ++i) assign(*target.parts[i], items[i], offset);
    }
  }
}

Evaluator::Flow Evaluator::run_for(const Statement& node) {
  const Value iterable = evaluate(*node.expressions[0]);
  position_ = node.position;
  if (!node.flag) return run_loop(node, iterable, 0);
  std::string text;
  {
    const Restore<std::string*> restore(buffer_, &text);
    run_loop(node, iterable, 0);
  }
  print(text);
  return Flow::kOn;
}

// Runs in the scope that surrounds the loop.
Evaluator::Flow Evaluator::run_loop(const Statement& node, const Value& iterable, int64_t depth0) {
  auto* loop = heap_.make<Loop>();
  loop->iterable = iterable;
  loop->depth0 = depth0;
  loop->node = node.flag ? &node : nullptr;
  loop->outer = variables_;
  loop->next = iterate(heap_, iterable);
  if (node.expressions[1]) {
    // The condition is evaluated for each item when the loop reaches it. Its scope has the target's slots, without
    // `loop`.
    Variables* scope = enter(node.scopes[2], variables_);
    loop->iterable = Value();
    loop->next = [this, &node, scope, source = std::move(loop->next)](Value& item) {
      while (source(item)) {
        const Restore<Variables*> restore(variables_, scope);
        assign(*node.target, item, -1);
        if (truth(evaluate(*node.expressions[1]))) return true;
      }
      return false;
    };
  }
  Variables* inner = enter(node.scopes[0], variables_);
  bool any = false;
  Flow flow = Flow::kOn;
  for (;;) {
    if (loop->after.is(Kind::kMissing)) {
      Value item;
      if (!loop->next(item)) break;
      loop->after = item;
    }
    loop->before = loop->current;
    loop->current = std::exchange(loop->after, Value());
    ++loop->index0;
    const Restore<Variables*> restore(variables_, inner);
    position_ = node.position;
    inner->slots[static_cast<size_t>(node.loop_slot)] = Value::of(Kind::kLoop, loop);
    assign(*node.target, loop->current);
    load(node.scopes[0], *inner);
    flow = run(node.bodies[0]);
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kOn)
      any = true;  // as in jinja2, an iteration ended by `continue` or `break` does not count for
                   // `else`
  }
  leave(node.scopes[0], *inner);
  if (any || node.bodies[1].empty()) return Flow::kOn;
  const Restore<Variables*> restore(variables_, enter(node.scopes[1], variables_));
  return run(node.bodies[1]);
}

Value Evaluator::call_loop(Loop& loop, Arguments& arguments) {
  if (loop.node == nullptr) raise("The loop must have the 'recursive' marker to be called recursively.");
  if (arguments.positional.size() != 1 || !arguments.named.empty()) raise("loop() takes one argument");
  const Depth depth(*this);
  std::string text;
  {
    const Restore<std::string*> to(buffer_, &text);
    const Restore<Variables*> restore(variables_, loop.outer);
    run_loop(*loop.node, arguments.positional[0], loop.depth0 + 1);
  }
  return heap_.string(std::move(text));
}

Evaluator::Flow Evaluator::run_set_block(const Statement& node) {
  Value value;
  {
    const Restore<Variables*> restore(variables_, enter(node.scopes[0], variables_));
    Flow flow;
    std::string text = captured(node.bodies[0], flow);
    if (flow != Flow::kOn) return flow;
    value = node.expressions[0] ? evaluate_filter(*node.expressions[0], &text) : heap_.string(std::move(text));
  }
  assign(*node.target, value);
  return Flow::kOn;
}

Value Evaluator::make_macro(const Statement& node) {
  auto* macro = heap_.make<Macro>();
  macro->node = &node;
  macro->outer = variables_;
  macro->name = node.name;
  return Value::of(Kind::kMacro, macro);
}

Value Evaluator::call_macro(const Macro& macro, Arguments& given) {
  const Depth depth(*this);
  const Statement& node = *macro.node;
  const std::string name = macro.name.empty() ? "the caller" : "macro '" + macro.name + "'";
  Variables* inner = enter(node.scopes[0], macro.outer);
  const Restore<Variables*> restore(variables_, inner);
  const size_t parameters = node.parameters.size();
  const auto slot = [&](size_t i) -> Value& { return inner->slots[static_cast<size_t>(node.parameter_slots[i])]; };
  const auto named = [&](const std::string& wanted, Value& value) {
    const auto found = std::find_if(given.named.begin(), given.named.end(),
                                    [&](const auto& argument) { return argument.first == wanted; });
    if (found == given.named.end()) return false;
    value = found->second;
    given.named.erase(found);
    return true;
  };
  bool found_caller = given.positional.size() >= parameters && node.explicit_caller;
  for (size_t i = 0; i < parameters; ++i) {
    slot(i) = {};
    if (i < given.positional.size()) {
      slot(i) = given.positional[i];
    } else {
      named(node.parameters[i], slot(i));
      found_caller = found_caller || node.parameters[i] == "caller";
    }
  }
  if (node.caller_slot >= 0 && !found_caller) {
    Value caller;
    if (!named("caller", caller) || caller.is(Kind::kNone)) caller = heap_.undefined("No caller defined");
    inner->slots[static_cast<size_t>(node.caller_slot)] = caller;
  }
  if (node.named_slot >= 0) {
    auto* rest = heap_.make<Dict>();
    for (const auto& [key, value] : given.named) rest->set(heap_.string(key), value);
    inner->slots[static_cast<size_t>(node.named_slot)] = Value::of(Kind::kDict, rest);
  } else if (!given.named.empty()) {
    raise(name + " takes no keyword argument '" + given.named[0].first + "'");
  }
  std::vector<Value> more;
  if (given.positional.size() > parameters)
    more.assign(given.positional.begin() + static_cast<std::ptrdiff_t>(parameters), given.positional.end());
  if (node.positional_slot >= 0)
    inner->slots[static_cast<size_t>(node.positional_slot)] = heap_.tuple(std::move(more));
  else if (!more.empty())
    raise(name + " takes not more than " + std::to_string(parameters) + " argument(s)");
  const size_t without = parameters - node.defaults.size();
  for (size_t i = 0; i < parameters; ++i) {
    if (!slot(i).is(Kind::kMissing)) continue;
    slot(i) = i >= without ? evaluate(*node.defaults[i - without])
                           : heap_.undefined("parameter '" + node.parameters[i] + "' was not provided");
  }
  Flow flow;
  return heap_.string(captured(node.bodies[0], flow));
}

void Evaluator::run_call(const Statement& node) {
  const Value caller = make_macro(node);
  const Value value = evaluate_call(*node.expressions[0], &caller);
  position_ = node.position;
  print_text(value);
}

// As in transformers, the body is rendered separately, and its position is the length of the output so far. Inside
// something that is rendered into a value (a macro, a set block), this is the end of the surrounding text, not the
// place where the value will be printed.
void Evaluator::run_generation(const Statement& node) {
  const Value body = make_macro(node);
  Arguments none;
  const Value text = call_macro(*static_cast<const Macro*>(body.object), none);
  spans_.emplace_back(output_characters_, output_characters_ + text.string().length);
  print(text.text());
}

void Evaluator::run_block(const Statement& node) {
  // A block sees the variables of the top level and, if `scoped`, those around it.
  std::unordered_map<std::string, Value> saved;
  if (node.flag) {
    saved = context_;
    for (const auto& [name, place] : node.visible)
      if (!at(place).is(Kind::kMissing)) context_[name] = at(place);
  }
  {
    const Restore<Variables*> restore(variables_, enter(node.scopes[0], nullptr));
    run(node.bodies[0]);
  }
  if (node.flag) context_ = std::move(saved);
}

Value Evaluator::block_reference(const std::string& name) {
  for (const auto& [known, node] : tree_.blocks) {
    if (known != name) continue;
    const Depth depth(*this);
    std::string text;
    {
      const Restore<std::string*> to(buffer_, &text);
      const Restore<Variables*> restore(variables_, enter(node->scopes[0], nullptr));
      run(node->bodies[0]);
    }
    return heap_.string(std::move(text));
  }
  raise("there is no block '" + name + "'");
}

}  // namespace carillon::jinja
