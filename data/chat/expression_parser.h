// Parses the expressions of a template by the grammar of jinja2's parser, with one method per level of precedence, from
// the lowest to the highest.
#pragma once

#include <string>
#include <string_view>

#include "data/chat/token_reader.h"
#include "data/chat/value.h"

namespace carillon::jinja {

class ExpressionParser : protected TokenReader {
 protected:
  ExpressionParser(std::string_view source, Heap& heap) : TokenReader(source), heap_(heap) {}

  using Kind = Expression::Kind;

  // `conditional`: whether "… if … else …" may follow.
  ExpressionPointer expression(bool conditional = true);
  // Parses one expression, or several separated by commas as a tuple. names_only: as the target of an assignment;
  // end_name: a name that ends it; namespace_targets: whether "namespace.attribute" may be a target.
  ExpressionPointer tuple(bool names_only, bool conditional, std::string_view end_name, bool parentheses,
                          bool namespace_targets);
  // The target of an assignment.
  ExpressionPointer target(std::string_view end_name = {}, bool namespaces = false);
  std::string target_name();
  ExpressionPointer constant(Position position, Value value) const;
  // `inline_start`: the filter's name comes next, without a bar.
  ExpressionPointer filter(ExpressionPointer node, bool inline_start);

  Heap& heap_;     // of the constants
  int loops_ = 0;  // number of enclosing loops

 private:
  ExpressionPointer make(Kind kind, Position position, std::string text = {}) const;
  void add(Expression& node, ExpressionPointer part) const;
  ExpressionPointer binary(Kind kind, Position position, std::string text, ExpressionPointer left,
                           ExpressionPointer right) const;
  ExpressionPointer disjunction();
  ExpressionPointer conjunction();
  ExpressionPointer negation();
  ExpressionPointer comparison();
  ExpressionPointer sum();
  ExpressionPointer concatenation();
  ExpressionPointer product();
  ExpressionPointer power();
  ExpressionPointer unary(bool filters = true);
  ExpressionPointer primary(bool namespace_target);
  ExpressionPointer list();
  ExpressionPointer dict();
  ExpressionPointer call(ExpressionPointer callee);
  ExpressionPointer postfix(ExpressionPointer node);
  ExpressionPointer attribute(ExpressionPointer object);
  ExpressionPointer subscript(ExpressionPointer object);
  void call_arguments(Expression& node);
  ExpressionPointer test(ExpressionPointer node);
  std::string dotted_name();
  void check_target(const Expression& target) const;
};

}  // namespace carillon::jinja
