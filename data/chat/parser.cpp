#include "data/chat/parser.h"

#include <algorithm>
#include <charconv>

#include "data/chat/lexer.h"
#include "data/chat/scopes.h"

namespace carillon::jinja {
namespace {

using Kind = Expression::Kind;

// How deep expressions and statements may be nested: bounds the stack of walking the tree.
constexpr int kDeepestTree = 200;

bool one_of(std::string_view text, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

class Parser {
 public:
  Parser(std::string_view source, Heap& heap) : tokens_(tokenize(source)), heap_(heap) {}

  std::unique_ptr<SyntaxTree> run() {
    auto tree = std::make_unique<SyntaxTree>();
    tree_ = tree.get();
    tree->body = statements({});
    return tree;
  }

 private:
  // --- tokens
  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& take() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }
  bool is_name(std::string_view name) const { return now().kind == Token::Kind::kName && now().text == name; }
  bool is_sign(std::string_view sign) const { return now().kind == Token::Kind::kOperator && now().text == sign; }
  bool is(Token::Kind kind) const { return now().kind == kind; }
  bool skip_name(std::string_view name) { return is_name(name) ? (take(), true) : false; }
  bool skip_sign(std::string_view sign) { return is_sign(sign) ? (take(), true) : false; }

  [[noreturn]] void fail(const std::string& message, Position position,
                         TemplateError::Reason reason = TemplateError::Reason::kSyntax) const {
    TemplateError error(reason, message);
    error.line = position.line;
    error.column = position.column;
    throw error;
  }
  std::string described() const {
    switch (now().kind) {
      case Token::Kind::kEnd:
        return "end of template";
      case Token::Kind::kVariableEnd:
        return "end of print statement";
      case Token::Kind::kBlockEnd:
        return "end of statement block";
      case Token::Kind::kString:
        return "a string";
      default:
        return "'" + now().text + "'";
    }
  }
  void expect_sign(std::string_view sign) {
    if (!skip_sign(sign)) fail("expected '" + std::string(sign) + "', got " + described(), now().position);
  }
  void expect(Token::Kind kind, const char* what) {
    if (!is(kind)) fail(std::string("expected ") + what + ", got " + described(), now().position);
    take();
  }
  std::string expect_any_name() {
    if (!is(Token::Kind::kName)) fail("expected a name, got " + described(), now().position);
    return take().text;
  }

  // Counts how deep the parser stands in itself.
  struct Nesting {
    explicit Nesting(Parser& of) : parser(of) {
      if (++parser.nesting_ > kDeepestTree) parser.fail("nested too deeply", parser.now().position);
    }
    ~Nesting() { --parser.nesting_; }
    Parser& parser;
  };

  // --- expressions
  ExpressionPointer make(Kind kind, Position position, std::string text = {}) const {
    auto node = std::make_unique<Expression>();
    node->kind = kind;
    node->position = position;
    node->text = std::move(text);
    return node;
  }
  void add(Expression& node, ExpressionPointer part) const {
    if (part) node.depth = std::max(node.depth, part->depth + 1);
    if (node.depth > kDeepestTree) fail("nested too deeply", node.position);
    node.parts.push_back(std::move(part));
  }
  ExpressionPointer binary(Kind kind, Position position, std::string text, ExpressionPointer left,
                           ExpressionPointer right) const {
    auto node = make(kind, position, std::move(text));
    add(*node, std::move(left));
    add(*node, std::move(right));
    return node;
  }

  ExpressionPointer expression(bool conditional = true) {
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
  ExpressionPointer disjunction() {
    auto left = conjunction();
    while (is_name("or")) {
      const Position position = take().position;
      left = binary(Kind::kOr, position, "or", std::move(left), conjunction());
    }
    return left;
  }
  ExpressionPointer conjunction() {
    auto left = negation();
    while (is_name("and")) {
      const Position position = take().position;
      left = binary(Kind::kAnd, position, "and", std::move(left), negation());
    }
    return left;
  }
  ExpressionPointer negation() {
    if (!is_name("not")) return comparison();
    const Nesting nesting(*this);
    auto node = make(Kind::kNot, take().position);
    add(*node, negation());
    return node;
  }
  ExpressionPointer comparison() {
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
  ExpressionPointer sum() {
    auto left = concatenation();
    while (is_sign("+") || is_sign("-")) {
      const Token& sign = take();
      left = binary(Kind::kBinary, sign.position, sign.text, std::move(left), concatenation());
    }
    return left;
  }
  ExpressionPointer concatenation() {
    auto first = product();
    if (!is_sign("~")) return first;
    auto node = make(Kind::kConcatenate, now().position);
    add(*node, std::move(first));
    while (skip_sign("~")) add(*node, product());
    return node;
  }
  ExpressionPointer product() {
    auto left = power();
    while (is_sign("*") || is_sign("/") || is_sign("//") || is_sign("%")) {
      const Token& sign = take();
      left = binary(Kind::kBinary, sign.position, sign.text, std::move(left), power());
    }
    return left;
  }
  ExpressionPointer power() {
    auto left = unary();
    while (is_sign("**")) {
      const Position position = take().position;
      left = binary(Kind::kBinary, position, "**", std::move(left), unary());
    }
    return left;
  }
  ExpressionPointer unary(bool filters = true) {
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

  ExpressionPointer constant(Position position, Value value) const {
    auto node = make(Kind::kConstant, position);
    node->value = value;
    return node;
  }

  ExpressionPointer primary(bool namespace_target) {
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
  ExpressionPointer list() {
    auto node = make(Kind::kList, take().position);
    while (!is_sign("]")) {
      if (!node->parts.empty()) expect_sign(",");
      if (is_sign("]")) break;
      add(*node, expression());
    }
    expect_sign("]");
    return node;
  }
  ExpressionPointer dict() {
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

  // One expression, or several with commas between as a tuple.
  ExpressionPointer tuple(bool names_only, bool conditional, std::string_view end_name, bool parentheses,
                          bool namespace_targets) {
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

  ExpressionPointer postfix(ExpressionPointer node) {
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
  ExpressionPointer attribute(ExpressionPointer object) {
    const Position position = take().position;
    if (is(Token::Kind::kName)) {
      auto node = make(Kind::kAttribute, position, take().text);
      add(*node, std::move(object));
      return node;
    }
    if (!is(Token::Kind::kInteger)) fail("expected a name or number, got " + described(), now().position);
    return binary(Kind::kItem, position, "", std::move(object), primary(false));
  }
  ExpressionPointer subscript(ExpressionPointer object) {
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

  void call_arguments(Expression& node) {
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
  ExpressionPointer call(ExpressionPointer callee) {
    auto node = make(Kind::kCall, now().position);
    add(*node, std::move(callee));
    call_arguments(*node);
    return node;
  }

  std::string dotted_name() {
    std::string name = expect_any_name();
    while (skip_sign(".")) name += "." + expect_any_name();
    return name;
  }
  // `inline_start`: a name stands here already, without a bar.
  ExpressionPointer filter(ExpressionPointer node, bool inline_start) {
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
  ExpressionPointer test(ExpressionPointer node) {
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

  void check_target(const Expression& target) const {
    if (target.kind == Kind::kNamespaceTarget) return;
    if (target.kind == Kind::kTuple) {
      for (const auto& part : target.parts) check_target(*part);
      return;
    }
    if (target.kind != Kind::kName) fail("can't assign to this", target.position);
    if (loops_ > 0 && target.text == "loop")
      fail("Can't assign to special loop variable in for-loop target", target.position);
  }
  ExpressionPointer target(std::string_view end_name = {}, bool namespaces = false) {
    auto node = tuple(true, true, end_name, false, namespaces);
    check_target(*node);
    return node;
  }
  std::string target_name() {
    const Position position = now().position;
    const std::string name = expect_any_name();
    if (one_of(name, {"true", "false", "none", "True", "False", "None"}))
      fail("can't assign to '" + name + "'", position);
    return name;
  }

  // --- statements
  // Up to one of `ends`, which is left to be read; to the end of the template when there are none.
  Body statements(std::initializer_list<std::string_view> ends) {
    const Nesting nesting(*this);
    Body body;
    Statement* output = nullptr;
    const auto print = [&](ExpressionPointer part, Position position) {
      if (output == nullptr) {
        body.push_back(std::make_unique<Statement>());
        output = body.back().get();
        output->position = position;
      }
      output->expressions.push_back(std::move(part));
    };
    for (;;) {
      const Token& token = now();
      if (token.kind == Token::Kind::kData) {
        print(constant(token.position, heap_.string(token.text)), token.position);
        take();
      } else if (token.kind == Token::Kind::kVariableBegin) {
        take();
        print(tuple(false, true, {}, false, false), token.position);
        expect(Token::Kind::kVariableEnd, "'}}'");
      } else if (token.kind == Token::Kind::kBlockBegin) {
        output = nullptr;
        const size_t begin = at_;
        take();
        if (is(Token::Kind::kName) && std::find(ends.begin(), ends.end(), now().text) != ends.end()) return body;
        if (auto made = statement(tokens_[begin].position, ends)) body.push_back(std::move(made));
        expect(Token::Kind::kBlockEnd, "'%}'");
      } else {
        if (ends.size() > 0) fail(awaited("Unexpected end of template.", ends), open_.back().second);
        return body;
      }
    }
  }
  std::string awaited(std::string message, std::initializer_list<std::string_view> ends) const {
    for (const std::string_view end : ends)
      message += (end == *ends.begin() ? " Looking for '" : " or '") + std::string(end) + "'";
    return message + (open_.empty()
                          ? ""
                          : (ends.size() > 0 ? "," : "") + std::string(" in the tag '") + open_.back().first + "'");
  }

  // The body of a tag whose head has been read.
  Body body(std::initializer_list<std::string_view> ends, bool drop = true) {
    skip_sign(":");
    expect(Token::Kind::kBlockEnd, "'%}'");
    Body made = statements(ends);
    if (drop) take();
    return made;
  }

  StatementPointer statement(Position position, std::initializer_list<std::string_view> ends) {
    if (!is(Token::Kind::kName)) fail("tag name expected, got " + described(), now().position);
    const std::string name = now().text;
    if (one_of(name, {"include", "import", "from", "extends"}))
      fail("the tag '" + name + "' would read another template, which chat templates may not", now().position,
           TemplateError::Reason::kUnknownName);
    using Method = void (Parser::*)(Statement&);
    static const std::pair<std::string_view, Method> kTags[] = {
        {"if", &Parser::parse_if},       {"for", &Parser::parse_for},
        {"set", &Parser::parse_set},     {"macro", &Parser::parse_macro},
        {"call", &Parser::parse_call},   {"filter", &Parser::parse_filter},
        {"with", &Parser::parse_with},   {"block", &Parser::parse_block},
        {"print", &Parser::parse_print}, {"generation", &Parser::parse_generation},
        {"break", &Parser::parse_break}, {"continue", &Parser::parse_continue}};
    for (const auto& [tag, method] : kTags) {
      if (tag != name) continue;
      auto made = std::make_unique<Statement>();
      made->position = position;
      open_.emplace_back(name, position);
      take();
      (this->*method)(*made);
      open_.pop_back();
      return made;
    }
    fail(awaited("Encountered unknown tag '" + name + "'.", ends), now().position, TemplateError::Reason::kUnknownName);
  }

  void parse_if(Statement& made) {
    made.kind = Statement::Kind::kIf;
    for (;;) {
      made.expressions.push_back(tuple(false, false, {}, false, false));
      made.bodies.push_back(body({"elif", "else", "endif"}, false));
      const std::string next = take().text;
      if (next == "elif") continue;
      if (next == "else") made.bodies.push_back(body({"endif"}));
      break;
    }
  }
  void parse_for(Statement& made) {
    made.kind = Statement::Kind::kFor;
    ++loops_;
    made.target = target("in");
    if (!skip_name("in")) fail("expected 'in', got " + described(), now().position);
    made.expressions.push_back(tuple(false, false, "recursive", false, false));
    made.expressions.push_back(skip_name("if") ? expression() : nullptr);
    made.flag = skip_name("recursive");
    const int inside = std::exchange(breakable_, breakable_ + 1);
    made.bodies.push_back(body({"endfor", "else"}, false));
    breakable_ = inside;
    made.bodies.emplace_back();
    if (take().text == "else") made.bodies.back() = body({"endfor"});
    --loops_;
  }
  void parse_set(Statement& made) {
    made.kind = Statement::Kind::kSet;
    made.target = target({}, true);
    if (skip_sign("=")) {
      made.expressions.push_back(tuple(false, true, {}, false, false));
      return;
    }
    made.kind = Statement::Kind::kSetBlock;
    made.expressions.push_back(filter(nullptr, false));
    made.bodies.push_back(inner({"endset"}));
  }
  // Some bodies are functions of their own in jinja2: no break leads out of them.
  Body inner(std::initializer_list<std::string_view> ends, bool keeps_loop = true) {
    const int inside = std::exchange(breakable_, keeps_loop ? breakable_ : 0);
    Body made = body(ends);
    breakable_ = inside;
    return made;
  }
  void signature(Statement& made) {
    expect_sign("(");
    while (!is_sign(")")) {
      if (!made.parameters.empty()) expect_sign(",");
      const Position position = now().position;
      const std::string name = target_name();
      if (std::find(made.parameters.begin(), made.parameters.end(), name) != made.parameters.end())
        fail("duplicate argument '" + name + "'", position);
      if (skip_sign("="))
        made.defaults.push_back(expression());
      else if (!made.defaults.empty())
        fail("non-default argument follows default argument", position);
      if (name == "caller") {
        if (made.defaults.empty())
          fail("the special argument 'caller' must be omitted or be given a default", position);
        made.explicit_caller = true;
      }
      made.parameters.push_back(name);
    }
    expect_sign(")");
  }
  void parse_macro(Statement& made) {
    made.kind = Statement::Kind::kMacro;
    made.name = target_name();
    signature(made);
    made.bodies.push_back(inner({"endmacro"}, false));
  }
  void parse_call(Statement& made) {
    made.kind = Statement::Kind::kCall;
    if (is_sign("(")) signature(made);
    const Position position = now().position;
    made.expressions.push_back(expression());
    if (made.expressions[0]->kind != Kind::kCall) fail("expected call", position);
    made.bodies.push_back(inner({"endcall"}, false));
  }
  void parse_generation(Statement& made) {
    made.kind = Statement::Kind::kGeneration;
    tree_->has_generation = true;
    made.bodies.push_back(inner({"endgeneration"}, false));
  }
  void parse_filter(Statement& made) {
    made.kind = Statement::Kind::kFilter;
    made.expressions.push_back(filter(nullptr, true));
    made.bodies.push_back(inner({"endfilter"}));
  }
  void parse_with(Statement& made) {
    made.kind = Statement::Kind::kWith;
    while (!is(Token::Kind::kBlockEnd)) {
      if (!made.targets.empty()) expect_sign(",");
      made.targets.push_back(target());
      expect_sign("=");
      made.expressions.push_back(expression());
    }
    made.bodies.push_back(inner({"endwith"}));
  }
  void parse_block(Statement& made) {
    made.kind = Statement::Kind::kBlock;
    const Position position = now().position;
    made.name = expect_any_name();
    made.flag = skip_name("scoped");
    if (skip_name("required")) fail("required blocks belong to template inheritance, which is not supported", position);
    for (const auto& [known, block] : tree_->blocks)
      if (known == made.name) fail("block '" + made.name + "' defined twice", position);
    tree_->blocks.emplace_back(made.name, &made);
    made.bodies.push_back(inner({"endblock"}, false));
    skip_name(made.name);
  }
  void parse_print(Statement& made) {
    made.kind = Statement::Kind::kOutput;
    while (!is(Token::Kind::kBlockEnd)) {
      if (!made.expressions.empty()) expect_sign(",");
      made.expressions.push_back(expression());
    }
  }
  void parse_break(Statement& made) {
    made.kind = Statement::Kind::kBreak;
    if (breakable_ == 0) fail("'break' outside loop", made.position);
  }
  void parse_continue(Statement& made) {
    made.kind = Statement::Kind::kContinue;
    if (breakable_ == 0) fail("'continue' outside loop", made.position);
  }

  const std::vector<Token> tokens_;
  Heap& heap_;
  SyntaxTree* tree_ = nullptr;
  size_t at_ = 0;
  int nesting_ = 0;
  int loops_ = 0;      // loops around
  int breakable_ = 0;  // of these, loops that `break` reaches
  std::vector<std::pair<std::string, Position>> open_;
};

}  // namespace

std::unique_ptr<SyntaxTree> parse(std::string_view source, Heap& heap) {
  auto tree = Parser(source, heap).run();
  resolve_names(*tree);
  return tree;
}

}  // namespace carillon::jinja
