#include "data/chat/expression_parser.h"

#include <algorithm>
#include <charconv>

namespace carillon::jinja {

ExpressionPointer ExpressionParser::make(Kind kind, Position position, std::string text) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->position = position;
  node->text = std::move(text);
  return node;
}

void ExpressionParser::add(Expression& node, ExpressionPointer part) const {
  if (part) node.depth = std::max(node.depth, part->depth + 1);
  if (node.depth > kDeepestTree) fail("nested too deeply", node.position);
  node.parts.push_back(std::move(part));
}

ExpressionPointer ExpressionParser::binary(Kind kind, Position position, std::string text, ExpressionPointer left,
                                           ExpressionPointer right) const {
  auto node = make(kind, position, std::move(text));
  add(*node, std::move(left));
  add(*node, std::move(right));
  return node;
}

ExpressionPointer ExpressionParser::expression(bool conditional) {
  const Nesting nesting(*this);
  if (!conditional) return disjunction();
  auto first = disjunction();
  while (is_name("if")) {
    const Position position = take().position;
    auto node = make(Kind::kConditional, position);
    add(*node, std::move(first));
    add(*node, disjunction());
    add(*node, skip_name("else") ? expression() : nullptr);
    first = std::move(node);
  }
  return first;
}

ExpressionPointer ExpressionParser::disjunction() {
  auto left = conjunction();
  while (is_name("or")) {
    const Position position = take().position;
    left = binary(Kind::kOr, position, "or", std::move(left), conjunction());
  }
  return left;
}

ExpressionPointer ExpressionParser::conjunction() {
  auto left = negation();
  while (is_name("and")) {
    const Position position = take().position;
    left = binary(Kind::kAnd, position, "and", std::move(left), negation());
  }
  return left;
}

ExpressionPointer ExpressionParser::negation() {
  if (!is_name("not")) return comparison();
  const Nesting nesting(*this);
  auto node = make(Kind::kNot, take().position);
  add(*node, negation());
  return node;
}

ExpressionPointer ExpressionParser::comparison() {
  auto first = sum();
  ExpressionPointer node;
  for (;;) {
    std::string sign;
    const Position position = now().position;
    if (is(Token::Kind::kOperator) && one_of(now().text, {"==", "!=", "<", "<=", ">", ">="})) {
      sign = take().text;
    } else if (skip_name("in")) {
      sign = "in";
    } else if (is_name("not") && ahead().kind == Token::Kind::kName && ahead().text == "in") {
      take(), take();
      sign = "not in";
    } else {
      return node ? std::move(node) : std::move(first);
    }
    if (!node) {
      node = make(Kind::kCompare, position);
      add(*node, std::move(first));
    }
    node->operators.push_back(sign);
    add(*node, sum());
  }
}

ExpressionPointer ExpressionParser::sum() {
  auto left = concatenation();
  while (is_sign("+") || is_sign("-")) {
    const Token& sign = take();
    left = binary(Kind::kBinary, sign.position, sign.text, std::move(left), concatenation());
  }
  return left;
}

ExpressionPointer ExpressionParser::concatenation() {
  auto first = product();
  if (!is_sign("~")) return first;
  auto node = make(Kind::kConcatenate, now().position);
  add(*node, std::move(first));
  while (skip_sign("~")) add(*node, product());
  return node;
}

ExpressionPointer ExpressionParser::product() {
  auto left = power();
  while (is_sign("*") || is_sign("/") || is_sign("//") || is_sign("%")) {
    const Token& sign = take();
    left = binary(Kind::kBinary, sign.position, sign.text, std::move(left), power());
  }
  return left;
}

ExpressionPointer ExpressionParser::power() {
  auto left = unary();
  while (is_sign("**")) {
    const Position position = take().position;
    left = binary(Kind::kBinary, position, "**", std::move(left), unary());
  }
  return left;
}

ExpressionPointer ExpressionParser::unary(bool filters) {
  const Nesting nesting(*this);
  ExpressionPointer node;
  if (is_sign("-") || is_sign("+")) {
    const Token& sign = take();
    node = make(Kind::kUnary, sign.position, sign.text);
    add(*node, unary(false));
  } else {
    node = primary(false);
  }
  node = postfix(std::move(node));
  while (filters) {
    if (is_sign("|"))
      node = filter(std::move(node), false);
    else if (is_name("is"))
      node = test(std::move(node));
    else if (is_sign("("))
      node = call(std::move(node));
    else
      break;
  }
  return node;
}

ExpressionPointer ExpressionParser::constant(Position position, Value value) const {
  auto node = make(Kind::kConstant, position);
  node->value = value;
  return node;
}

ExpressionPointer ExpressionParser::primary(bool namespace_target) {
  const Token& token = now();
  const Position position = token.position;
  switch (token.kind) {
    case Token::Kind::kName: {
      take();
      if (one_of(token.text, {"true", "True"})) return constant(position, Value::from(true));
      if (one_of(token.text, {"false", "False"})) return constant(position, Value::from(false));
      if (one_of(token.text, {"none", "None"})) return constant(position, Value::none());
      auto name = make(Kind::kName, position, token.text);
      if (!namespace_target || !skip_sign(".")) return name;
      auto node = make(Kind::kNamespaceTarget, position, expect_any_name());
      add(*node, std::move(name));
      return node;
    }
    case Token::Kind::kString: {
      std::string text;
      while (is(Token::Kind::kString)) text += take().text;
      return constant(position, heap_.string(std::move(text)));
    }
    case Token::Kind::kInteger: {
      int64_t value = 0;
      const auto [end, error] = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
      if (error != std::errc()) fail("an integer beyond 64 bits", position);
      take();
      return constant(position, Value::from(value));
    }
    case Token::Kind::kFloat:
      take();
      return constant(position, Value::from(token.number));
    case Token::Kind::kOperator:
      if (token.text == "(") {
        take();
        auto node = tuple(false, true, {}, true, false);
        expect_sign(")");
        return node;
      }
      if (token.text == "[") return list();
      if (token.text == "{") return dict();
      break;
    default:
      break;
  }
  fail("unexpected " + described(), position);
}

ExpressionPointer ExpressionParser::list() {
  auto node = make(Kind::kList, take().position);
  while (!is_sign("]")) {
    if (!node->parts.empty()) expect_sign(",");
    if (is_sign("]")) break;
    add(*node, expression());
  }
  expect_sign("]");
  return node;
}

ExpressionPointer ExpressionParser::dict() {
  auto node = make(Kind::kDict, take().position);
  while (!is_sign("}")) {
    if (!node->parts.empty()) expect_sign(",");
    if (is_sign("}")) break;
    add(*node, expression());
    expect_sign(":");
    add(*node, expression());
  }
  expect_sign("}");
  return node;
}

ExpressionPointer ExpressionParser::tuple(bool names_only, bool conditional, std::string_view end_name,
                                          bool parentheses, bool namespace_targets) {
  const Position position = now().position;
  std::vector<ExpressionPointer> parts;
  bool is_tuple = false;
  for (;;) {
    if (!parts.empty()) expect_sign(",");
    if (is(Token::Kind::kVariableEnd) || is(Token::Kind::kBlockEnd) || is_sign(")") ||
        (!end_name.empty() && is_name(end_name)))
      break;
    parts.push_back(names_only ? primary(namespace_targets) : expression(conditional));
    if (!is_sign(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !parts.empty()) return std::move(parts[0]);
  if (!is_tuple && !parentheses) fail("Expected an expression, got " + described(), now().position);
  auto node = make(Kind::kTuple, position);
  for (auto& part : parts) add(*node, std::move(part));
  return node;
}

ExpressionPointer ExpressionParser::postfix(ExpressionPointer node) {
  for (;;) {
    if (is_sign("."))
      node = attribute(std::move(node));
    else if (is_sign("["))
      node = subscript(std::move(node));
    else if (is_sign("("))
      node = call(std::move(node));
    else
      return node;
  }
}

ExpressionPointer ExpressionParser::attribute(ExpressionPointer object) {
  const Position position = take().position;
  if (is(Token::Kind::kName)) {
    auto node = make(Kind::kAttribute, position, take().text);
    add(*node, std::move(object));
    return node;
  }
  if (!is(Token::Kind::kInteger)) fail("expected a name or number, got " + described(), now().position);
  return binary(Kind::kItem, position, "", std::move(object), primary(false));
}

ExpressionPointer ExpressionParser::subscript(ExpressionPointer object) {
  const Position position = take().position;
  std::vector<ExpressionPointer> parts;
  bool slices = false;
  while (!is_sign("]")) {
    if (!parts.empty()) expect_sign(",");
    ExpressionPointer start;
    if (!is_sign(":")) start = expression();
    if (!is_sign(":")) {
      parts.push_back(std::move(start));
      continue;
    }
    slices = true;
    auto slice = make(Kind::kTuple, position);
    add(*slice, std::move(start));
    take();
    add(*slice, is_sign(":") || is_sign("]") || is_sign(",") ? nullptr : expression());
    add(*slice, skip_sign(":") && !is_sign("]") && !is_sign(",") ? expression() : nullptr);
    parts.push_back(std::move(slice));
  }
  expect_sign("]");
  if (parts.empty()) fail("Expected an expression, got ']'", position);
  if (slices && parts.size() > 1) fail("slices of several dimensions are not supported", position);
  if (slices) return binary(Kind::kSlice, position, "", std::move(object), std::move(parts[0]));
  if (parts.size() == 1) return binary(Kind::kItem, position, "", std::move(object), std::move(parts[0]));
  auto key = make(Kind::kTuple, position);
  for (auto& part : parts) add(*key, std::move(part));
  return binary(Kind::kItem, position, "", std::move(object), std::move(key));
}

void ExpressionParser::call_arguments(Expression& node) {
  const Position position = now().position;
  CallArguments& given = node.arguments;
  const auto ensure = [&](bool holds) {
    if (!holds) fail("invalid syntax for function call expression", position);
  };
  const auto deepen = [&](ExpressionPointer part) {
    node.depth = std::max(node.depth, part->depth + 1);
    return part;
  };
  expect_sign("(");
  for (bool first = true; !is_sign(")"); first = false) {
    if (!first) {
      expect_sign(",");
      if (is_sign(")")) break;
    }
    if (is_sign("*")) {
      ensure(!given.more_positional && !given.more_named);
      take();
      given.more_positional = deepen(expression());
    } else if (is_sign("**")) {
      ensure(!given.more_named);
      take();
      given.more_named = deepen(expression());
    } else if (is(Token::Kind::kName) && ahead().kind == Token::Kind::kOperator && ahead().text == "=") {
      ensure(!given.more_named);
      const std::string name = take().text;
      take();
      for (const auto& [known, value] : given.named)
        if (known == name) fail("keyword argument repeated: " + name, position);
      given.named.emplace_back(name, deepen(expression()));
    } else {
      ensure(!given.more_positional && !given.more_named && given.named.empty());
      given.positional.push_back(deepen(expression()));
    }
  }
  expect_sign(")");
  if (node.depth > kDeepestTree) fail("nested too deeply", position);
}

ExpressionPointer ExpressionParser::call(ExpressionPointer callee) {
  auto node = make(Kind::kCall, now().position);
  add(*node, std::move(callee));
  call_arguments(*node);
  return node;
}

std::string ExpressionParser::dotted_name() {
  std::string name = expect_any_name();
  while (skip_sign(".")) name += "." + expect_any_name();
  return name;
}

ExpressionPointer ExpressionParser::filter(ExpressionPointer node, bool inline_start) {
  while (is_sign("|") || inline_start) {
    if (!inline_start) take();
    inline_start = false;
    const Position position = now().position;
    const std::string name = dotted_name();
    auto outer = make(Kind::kFilter, position, name);
    if (node) add(*outer, std::move(node));
    if (is_sign("(")) call_arguments(*outer);
    node = std::move(outer);
  }
  return node;
}

ExpressionPointer ExpressionParser::test(ExpressionPointer node) {
  const Position position = take().position;
  const bool negated = skip_name("not");
  const std::string name = dotted_name();
  auto outer = make(Kind::kTest, position, name);
  add(*outer, std::move(node));
  if (is_sign("(")) {
    call_arguments(*outer);
  } else if ((is(Token::Kind::kName) && !one_of(now().text, {"else", "or", "and"})) || is(Token::Kind::kString) ||
             is(Token::Kind::kInteger) || is(Token::Kind::kFloat) || is_sign("[") || is_sign("{")) {
    if (is_name("is")) fail("You cannot chain multiple tests with is", now().position);
    auto argument = postfix(primary(false));
    outer->depth = std::max(outer->depth, argument->depth + 1);
    outer->arguments.positional.push_back(std::move(argument));
  }
  if (!negated) return outer;
  auto negation = make(Kind::kNot, position);
  add(*negation, std::move(outer));
  return negation;
}

void ExpressionParser::check_target(const Expression& target) const {
  if (target.kind == Kind::kNamespaceTarget) return;
  if (target.kind == Kind::kTuple) {
    for (const auto& part : target.parts) check_target(*part);
    return;
  }
  if (target.kind != Kind::kName) fail("can't assign to this", target.position);
  if (loops_ > 0 && target.text == "loop")
    fail("Can't assign to special loop variable in for-loop target", target.position);
}

ExpressionPointer ExpressionParser::target(std::string_view end_name, bool namespaces) {
  auto node = tuple(true, true, end_name, false, namespaces);
  check_target(*node);
  return node;
}

std::string ExpressionParser::target_name() {
  const Position position = now().position;
  const std::string name = expect_any_name();
  if (one_of(name, {"true", "false", "none", "True", "False", "None"}))
    fail("can't assign to '" + name + "'", position);
  return name;
}

}  // namespace carillon::jinja
