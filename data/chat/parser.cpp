#include "data/chat/parser.h"

#include <algorithm>

#include "data/chat/expression_parser.h"
#include "data/chat/scopes.h"

namespace carillon::jinja {
namespace {

class Parser : ExpressionParser {
 public:
  Parser(std::string_view source, Heap& heap) : ExpressionParser(source, heap) {}

  std::unique_ptr<SyntaxTree> run() {
    auto tree = std::make_unique<SyntaxTree>();
    tree_ = tree.get();
    tree->body = statements({});
    return tree;
  }

 private:
  // Parses up to one of the tags `ends`, which is left unread, or without `ends` to the end of the template.
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
        const Position begin = token.position;
        take();
        if (is(Token::Kind::kName) && std::find(ends.begin(), ends.end(), now().text) != ends.end()) return body;
        if (auto made = statement(begin, ends)) body.push_back(std::move(made));
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

  // Parses the body of a tag after its head.
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
  // The body of a tag that jinja2 compiles to a separate function: `break` cannot leave it.
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

  SyntaxTree* tree_ = nullptr;
  int breakable_ = 0;  // number of enclosing loops that `break` can reach
  std::vector<std::pair<std::string, Position>> open_;
};

}  // namespace

std::unique_ptr<SyntaxTree> parse(std::string_view source, Heap& heap) {
  auto tree = Parser(source, heap).run();
  resolve_names(*tree);
  return tree;
}

}  // namespace carillon::jinja
