// The tree of a parsed template, with every variable resolved to a place (scopes.h). It never changes once it is made.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/chat/value.h"

namespace carillon::jinja {

// Where a variable lies: `hops` scopes outwards, then that slot.
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

// What a call, filter or test is given: f(a, name=b, *c, **d).
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
    kSlice,      // parts[1]: start, stop, step as a kTuple whose parts may be absent; parts[0][…]
    kCall,       // parts[0](arguments)
    kFilter,     // parts[0] | text(arguments); no parts: the body of a filter or set block
    kTest,       // parts[0] is text(arguments)
    kNot,        // parts[0]
    kUnary,      // text ("+" or "-"), parts[0]
    kBinary,     // parts[0] text parts[1]
    kAnd,
    kOr,
    kCompare,          // parts[0] operators[0] parts[1] operators[1] parts[2] …
    kConcatenate,      // parts joined as texts: ~
    kConditional,      // parts[0] if parts[1] else parts[2], which may be absent
    kNamespaceTarget,  // as a target: the attribute `text` of the namespace parts[0]
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

// A scope's variables, and what they are when it is entered.
struct Scope {
  struct Load {
    int slot = 0;
    enum class From { kNothing, kOuter, kContext } from = From::kNothing;
    Place outer;       // of kOuter
    std::string name;  // of kContext
  };
  int slots = 0;
  std::vector<Load> loads;
};

struct Statement {
  enum class Kind {
    kOutput,      // expressions
    kIf,          // expressions[i] → bodies[i]; a further body: else
    kFor,         // target, expressions: iterable, condition (may be absent); bodies: body, else; scopes: body, else,
                  // condition
    kSet,         // target = expressions[0]
    kSetBlock,    // target = bodies[0], filtered by expressions[0] if there is one
    kMacro,       // name, parameters, bodies[0]
    kCall,        // expressions[0] with a caller of parameters and bodies[0]
    kFilter,      // expressions[0] over bodies[0]
    kWith,        // targets = expressions, bodies[0]
    kBlock,       // name, bodies[0]
    kGeneration,  // bodies[0]
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kOutput;
  Position position;
  std::string name;
  Place place;             // of a macro's name
  bool flag = false;       // a recursive loop, a scoped block
  bool top_level = false;  // what is set becomes visible to blocks
  ExpressionPointer target;
  std::vector<ExpressionPointer> targets;
  std::vector<ExpressionPointer> expressions;
  std::vector<Body> bodies;
  std::vector<Scope> scopes;
  // Of macros, calls and generations: parameters and what the last of them are by default. The special ones have a slot
  // where the body reads them.
  std::vector<std::string> parameters;
  std::vector<int> parameter_slots;
  std::vector<ExpressionPointer> defaults;
  int caller_slot = -1, named_slot = -1, positional_slot = -1, loop_slot = -1;
  bool explicit_caller = false;
  std::vector<std::pair<std::string, Place>> visible;  // of a scoped block: what its surroundings set
};

struct SyntaxTree {
  Body body;
  Scope scope;
  std::vector<std::pair<std::string, const Statement*>> blocks;
  bool has_generation = false;
  int self_slot = -1;
};

}  // namespace carillon::jinja
