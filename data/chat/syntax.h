// The tree of a parsed template, with every variable resolved to a place (scopes.h). It is immutable.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/chat/value.h"

namespace carillon::jinja {

// Place of a variable: a slot of the scope that is `hops` scopes further out.
struct Place {
  int hops = -1;
  int slot = -1;
};

struct Position {
  int line = 0;
  int column = 0;
};

struct Expression;
struct Statement;
using ExpressionPointer = std::unique_ptr<Expression>;
using StatementPointer = std::unique_ptr<Statement>;
using Body = std::vector<StatementPointer>;

// The arguments of a call, filter or test: f(a, name=b, *c, **d).
struct CallArguments {
  std::vector<ExpressionPointer> positional;
  std::vector<std::pair<std::string, ExpressionPointer>> named;
  ExpressionPointer more_positional;
  ExpressionPointer more_named;
};

struct Expression {
  enum class Kind {
    kConstant,   // value
    kName,       // text, place
    kTuple,      // parts
    kList,       // parts
    kDict,       // parts: key, value, key, value …
    kAttribute,  // parts[0].text
    kItem,       // parts[0][parts[1]]
    kSlice,      // parts[0][start:stop:step]; parts[1] is a kTuple of the three, any of which may be absent
    kCall,       // parts[0](arguments)
    kFilter,     // parts[0] | text(arguments); without parts: applied to the body of a filter or set block
    kTest,       // parts[0] is text(arguments)
    kNot,        // parts[0]
    kUnary,      // text ("+" or "-"), parts[0]
    kBinary,     // parts[0] text parts[1]
    kAnd,
    kOr,
    kCompare,          // parts[0] operators[0] parts[1] operators[1] parts[2] …
    kConcatenate,      // parts joined as texts (~)
    kConditional,      // parts[0] if parts[1] else parts[2], which may be absent
    kNamespaceTarget,  // as a target: attribute `text` of the namespace parts[0]
  };
  Kind kind = Kind::kConstant;
  Position position;
  int depth = 1;  // of this tree
  std::string text;
  Value value;
  Place place;
  std::vector<ExpressionPointer> parts;
  std::vector<std::string> operators;
  CallArguments arguments;
};

// The variables of a scope and their initial values when it is entered.
struct Scope {
  struct Load {
    int slot = 0;
    enum class From { kNothing, kOuter, kContext } from = From::kNothing;
    Place outer;       // if kOuter
    std::string name;  // if kContext
  };
  int slots = 0;
  std::vector<Load> loads;
};

struct Statement {
  enum class Kind {
    kOutput,      // expressions are printed
    kIf,          // expressions[i] → bodies[i]; one more body: else
    kFor,         // target, expressions: iterable, condition (may be absent); bodies: body, else; scopes: body, else,
                  // condition
    kSet,         // target = expressions[0]
    kSetBlock,    // target = bodies[0], filtered by expressions[0] if present
    kMacro,       // name, parameters, bodies[0]
    kCall,        // expressions[0] with a caller made of parameters and bodies[0]
    kFilter,      // expressions[0] applied to bodies[0]
    kWith,        // targets = expressions, bodies[0]
    kBlock,       // name, bodies[0]
    kGeneration,  // bodies[0]
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kOutput;
  Position position;
  std::string name;
  Place place;             // of the macro's name
  bool flag = false;       // loop: recursive; block: scoped
  bool top_level = false;  // variables set here are visible to blocks
  ExpressionPointer target;
  std::vector<ExpressionPointer> targets;
  std::vector<ExpressionPointer> expressions;
  std::vector<Body> bodies;
  std::vector<Scope> scopes;
  // Of macros, calls and generations: the parameters, and the defaults of the last ones. The special variables have a
  // slot if the body reads them.
  std::vector<std::string> parameters;
  std::vector<int> parameter_slots;
  std::vector<ExpressionPointer> defaults;
  int caller_slot = -1, named_slot = -1, positional_slot = -1, loop_slot = -1;
  bool explicit_caller = false;
  std::vector<std::pair<std::string, Place>> visible;  // of a scoped block: variables set around it
};

struct SyntaxTree {
  Body body;
  Scope scope;
  std::vector<std::pair<std::string, const Statement*>> blocks;
  bool has_generation = false;
  int self_slot = -1;
};

}  // namespace carillon::jinja
