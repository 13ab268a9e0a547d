#include "data/chat/scopes.h"

#include <algorithm>
#include <map>
#include <set>

#include "data/chat/filters.h"

namespace carillon::jinja {
namespace {

using Kind = Expression::Kind;

// The names of a scope known while its statements are read; copied for the branches of an `if`.
struct Symbols {
  enum class Load { kParameter, kContext, kOuter, kNothing };
  struct Known {
    Load load = Load::kNothing;
    Place outer;
  };
  Symbols* parent = nullptr;
  std::map<std::string, int>* slots = nullptr;  // shared by copies, so that a name keeps its slot
  std::map<std::string, Known> known;
  std::set<std::string> stored;

  bool find(const std::string& name, Place& place) {
    int hops = 0;
    for (Symbols* scope = this; scope != nullptr; scope = scope->parent, ++hops) {
      if (!scope->known.contains(name)) continue;
      place = {hops, scope->slots->at(name)};
      return true;
    }
    return false;
  }
  int define(const std::string& name, Known what) {
    known[name] = what;
    return slots->emplace(name, static_cast<int>(slots->size())).first->second;
  }
  // Looks in the surrounding scopes; `place` is relative to this one.
  bool find_outer(const std::string& name, Place& place) {
    if (parent == nullptr || !parent->find(name, place)) return false;
    ++place.hops;
    return true;
  }

  void read(const std::string& name) {
    Place place;
    if (!find(name, place)) define(name, {Load::kContext, {}});
  }
  void store(const std::string& name) {
    stored.insert(name);
    if (known.contains(name)) return;
    Place outer;
    define(name, find_outer(name, outer) ? Known{Load::kOuter, outer} : Known{Load::kNothing, {}});
  }
  int parameter(const std::string& name) {
    stored.insert(name);
    return define(name, {Load::kParameter, {}});
  }
  // Joins the branches of an `if`: a name that only some branches set starts with its value from the surrounding scope.
  void join(const std::vector<Symbols>& branches) {
    std::set<std::string> fresh;
    for (const Symbols& branch : branches) fresh.insert(branch.stored.begin(), branch.stored.end());
    for (const std::string& name : stored) fresh.erase(name);
    for (const Symbols& branch : branches) {
      for (const auto& [name, what] : branch.known) known[name] = what;
      stored.insert(branch.stored.begin(), branch.stored.end());
    }
    for (const std::string& name : fresh) {
      Place outer;
      known[name] = find_outer(name, outer) ? Known{Load::kOuter, outer} : Known{Load::kContext, {}};
    }
  }
};

template <class Visit>
void each_argument(const CallArguments& arguments, const Visit& visit) {
  for (const auto& part : arguments.positional) visit(*part);
  for (const auto& [name, part] : arguments.named) visit(*part);
  if (arguments.more_positional) visit(*arguments.more_positional);
  if (arguments.more_named) visit(*arguments.more_named);
}
template <class Visit>
void each_part(const Expression& node, const Visit& visit) {
  for (const auto& part : node.parts)
    if (part) visit(*part);
  each_argument(node.arguments, visit);
}

// Finds which of `names` a body reads without having set it; includes nested bodies, but not blocks.
class Undeclared {
 public:
  explicit Undeclared(std::set<std::string> names) : names_(std::move(names)) {}
  void body(const Body& body) {
    for (const auto& statement : body) visit(*statement);
  }
  bool reads(const std::string& name) const { return found_.contains(name); }

 private:
  void visit(const Expression& node, bool stores = false) {
    if (node.kind == Kind::kName) {
      if (!stores && names_.contains(node.text))
        found_.insert(node.text);
      else
        names_.erase(node.text);
    }
    if (node.kind == Kind::kNamespaceTarget) return;
    each_part(node, [&](const Expression& part) { visit(part, stores); });
  }
  void visit(const Statement& node) {
    if (node.kind == Statement::Kind::kBlock) return;
    const auto read = [&](const ExpressionPointer& part) {
      if (part) visit(*part);
    };
    if (node.target) visit(*node.target, true);
    for (const auto& target : node.targets) visit(*target, true);
    for (const std::string& name : node.parameters) names_.erase(name);
    for (const auto& part : node.defaults) read(part);
    for (const auto& part : node.expressions) read(part);
    for (const Body& inner : node.bodies) body(inner);
  }
  std::set<std::string> names_, found_;
};

class Resolver {
 public:
  void run(SyntaxTree& tree) {
    std::map<std::string, int> slots;
    Symbols symbols{nullptr, &slots, {}, {}};
    Undeclared own({"self"});
    own.body(tree.body);
    if (own.reads("self")) tree.self_slot = symbols.parameter("self");
    analyze(tree.body, symbols);
    frame_ = {&symbols, true, false};
    body(tree.body);
    tree.scope = scope_of(symbols);
  }

 private:
  struct Frame {
    Symbols* symbols = nullptr;
    bool top_level = false;
    bool soft = false;  // under a condition
  };

  // --- first pass: what a scope's own statements mention
  static void mention(const Expression& node, Symbols& symbols) {
    if (node.kind == Kind::kName) symbols.read(node.text);
    each_part(node, [&](const Expression& part) { mention(part, symbols); });
  }
  static void mention_target(const Expression& node, Symbols& symbols, bool as_parameter) {
    if (node.kind == Kind::kName) {
      if (as_parameter)
        symbols.parameter(node.text);
      else
        symbols.store(node.text);
    } else if (node.kind == Kind::kNamespaceTarget) {
      symbols.read(node.parts[0]->text);
    } else {
      for (const auto& part : node.parts) mention_target(*part, symbols, as_parameter);
    }
  }
  static void analyze(const Body& body, Symbols& symbols) {
    for (const auto& statement : body) mention(*statement, symbols);
  }
  static void mention(const Statement& node, Symbols& symbols) {
    switch (node.kind) {
      case Statement::Kind::kOutput:
        for (const auto& part : node.expressions) mention(*part, symbols);
        break;
      case Statement::Kind::kIf: {
        // elif is an `if` inside the following branch, because the tests are read in turn.
        mention(*node.expressions[0], symbols);
        std::vector<Symbols> branches(3, symbols);
        analyze(node.bodies[0], branches[0]);
        for (size_t i = 1; i < node.expressions.size(); ++i) {
          mention(*node.expressions[i], branches[1]);
          std::vector<Symbols> inner(3, branches[1]);
          analyze(node.bodies[i], inner[0]);
          branches[1].join(inner);
        }
        if (node.bodies.size() > node.expressions.size()) analyze(node.bodies.back(), branches[2]);
        symbols.join(branches);
        break;
      }
      case Statement::Kind::kFor:
        mention(*node.expressions[0], symbols);
        break;
      case Statement::Kind::kSet:
        mention(*node.expressions[0], symbols);
        mention_target(*node.target, symbols, false);
        break;
      case Statement::Kind::kSetBlock:
        mention_target(*node.target, symbols, false);
        break;
      case Statement::Kind::kMacro:
        symbols.store(node.name);
        break;
      case Statement::Kind::kCall:
        mention(*node.expressions[0], symbols);
        break;
      case Statement::Kind::kFilter:
        mention(*node.expressions[0], symbols);
        break;
      case Statement::Kind::kWith:
        for (const auto& part : node.expressions) mention(*part, symbols);
        break;
      default:
        break;
    }
  }

  static Scope scope_of(const Symbols& symbols) {
    Scope scope;
    scope.slots = static_cast<int>(symbols.slots->size());
    for (const auto& [name, what] : symbols.known) {
      if (what.load == Symbols::Load::kParameter) continue;
      const auto from = what.load == Symbols::Load::kContext ? Scope::Load::From::kContext
                        : what.load == Symbols::Load::kOuter ? Scope::Load::From::kOuter
                                                             : Scope::Load::From::kNothing;
      scope.loads.push_back({symbols.slots->at(name), from, what.outer, name});
    }
    return scope;
  }

  // --- second pass: resolve every name to its place
  void place(Expression& node) {
    if (node.kind == Kind::kName && !frame_.symbols->find(node.text, node.place)) {
      frame_.symbols->read(node.text);  // only in the filter of a set block, which the first pass skips
      frame_.symbols->find(node.text, node.place);
    }
    const bool filter = node.kind == Kind::kFilter, test = node.kind == Kind::kTest;
    if (!frame_.soft && ((filter && !is_filter(node.text)) || (test && !is_test(node.text)))) {
      TemplateError error(TemplateError::Reason::kUnknownName,
                          filter ? unknown_filter(node.text) : unknown_test(node.text));
      error.line = node.position.line;
      error.column = node.position.column;
      throw error;
    }
    const bool before = std::exchange(frame_.soft, frame_.soft || node.kind == Kind::kConditional);
    for (auto& part : node.parts)
      if (part) place(*part);
    for (auto& part : node.arguments.positional) place(*part);
    for (auto& [name, part] : node.arguments.named) place(*part);
    if (node.arguments.more_positional) place(*node.arguments.more_positional);
    if (node.arguments.more_named) place(*node.arguments.more_named);
    frame_.soft = before;
  }
  void body(Body& body) {
    for (auto& statement : body) place(*statement);
  }

  // Runs `work` in a new scope inside the current one (or isolated, for blocks); `analysis` collects its names.
  template <class Analysis, class Work>
  void scope(Statement& node, bool isolated, const Analysis& analysis, const Work& work) {
    std::map<std::string, int> slots;
    Symbols symbols{isolated ? nullptr : frame_.symbols, &slots, {}, {}};
    analysis(symbols);
    const Frame outer = std::exchange(frame_, Frame{&symbols, false, false});
    work();
    frame_ = outer;
    node.scopes.push_back(scope_of(symbols));
  }

  void function(Statement& node) {
    scope(
        node, false,
        [&](Symbols& symbols) {
          // jinja2 reads the parameters and defaults together with the body, then adds the special variables.
          for (const std::string& name : node.parameters) node.parameter_slots.push_back(symbols.parameter(name));
          Undeclared special({"caller", "kwargs", "varargs"});
          special.body(node.bodies[0]);
          const auto declared = [&](const char* name) {
            return std::find(node.parameters.begin(), node.parameters.end(), name) != node.parameters.end();
          };
          if (special.reads("caller") && !node.explicit_caller) node.caller_slot = symbols.parameter("caller");
          if (special.reads("kwargs") && !declared("kwargs")) node.named_slot = symbols.parameter("kwargs");
          if (special.reads("varargs") && !declared("varargs")) node.positional_slot = symbols.parameter("varargs");
          for (const auto& part : node.defaults) mention(*part, symbols);
          analyze(node.bodies[0], symbols);
        },
        [&] {
          for (auto& part : node.defaults) place(*part);
          body(node.bodies[0]);
        });
  }

  void place(Statement& node) {
    node.top_level = frame_.top_level;
    switch (node.kind) {
      case Statement::Kind::kOutput:
        for (auto& part : node.expressions) place(*part);
        break;
      case Statement::Kind::kIf: {
        const bool before = std::exchange(frame_.soft, true);
        for (auto& part : node.expressions) place(*part);
        for (Body& inner : node.bodies) body(inner);
        frame_.soft = before;
        break;
      }
      case Statement::Kind::kFor:
        place_for(node);
        break;
      case Statement::Kind::kSet:
        place(*node.expressions[0]);
        place(*node.target);
        break;
      case Statement::Kind::kSetBlock:
        scope(
            node, false, [&](Symbols& symbols) { analyze(node.bodies[0], symbols); },
            [&] {
              body(node.bodies[0]);
              if (node.expressions[0]) place(*node.expressions[0]);
            });
        place(*node.target);
        break;
      case Statement::Kind::kMacro:
        function(node);
        frame_.symbols->find(node.name, node.place);
        break;
      case Statement::Kind::kCall:
        function(node);
        place(*node.expressions[0]);
        break;
      case Statement::Kind::kGeneration:
        function(node);
        break;
      case Statement::Kind::kFilter:
        scope(
            node, false,
            [&](Symbols& symbols) {
              analyze(node.bodies[0], symbols);
              mention(*node.expressions[0], symbols);
            },
            [&] {
              body(node.bodies[0]);
              place(*node.expressions[0]);
            });
        break;
      case Statement::Kind::kWith: {
        for (auto& part : node.expressions) place(*part);
        scope(
            node, false,
            [&](Symbols& symbols) {
              for (const auto& target : node.targets) mention_target(*target, symbols, true);
              analyze(node.bodies[0], symbols);
            },
            [&] {
              for (auto& target : node.targets) place(*target);
              body(node.bodies[0]);
            });
        break;
      }
      case Statement::Kind::kBlock:
        if (node.flag) {
          for (Symbols* from = frame_.symbols; from != nullptr; from = from->parent)
            for (const std::string& name : from->stored) {
              Place at;
              frame_.symbols->find(name, at);
              node.visible.emplace_back(name, at);
            }
        }
        scope(
            node, true, [&](Symbols& symbols) { analyze(node.bodies[0], symbols); }, [&] { body(node.bodies[0]); });
        break;
      default:
        break;
    }
  }

  void place_for(Statement& node) {
    place(*node.expressions[0]);
    scope(
        node, false,
        [&](Symbols& symbols) {
          node.loop_slot = symbols.parameter("loop");
          mention_target(*node.target, symbols, true);
          analyze(node.bodies[0], symbols);
        },
        [&] {
          place(*node.target);
          body(node.bodies[0]);
        });
    scope(
        node, false, [&](Symbols& symbols) { analyze(node.bodies[1], symbols); }, [&] { body(node.bodies[1]); });
    // The condition has a separate scope with the loop's variables. Its slots are found by name, in the order in which
    // the target declares the names.
    scope(
        node, false,
        [&](Symbols& symbols) {
          mention_target(*node.target, symbols, true);
          if (node.expressions[1]) mention(*node.expressions[1], symbols);
        },
        [&] {
          if (node.expressions[1]) place(*node.expressions[1]);
        });
  }

  Frame frame_;
};

}  // namespace

void resolve_names(SyntaxTree& tree) { Resolver().run(tree); }

}  // namespace carillon::jinja
