#include "trainer/data/jinja/parser.h"

#include <fmt/core.h>

#include <algorithm>
#include <initializer_list>
#include <span>

#include "trainer/data/jinja/expression_parser.h"
#include "trainer/data/jinja/lexer.h"

namespace autoglm::jinja {
namespace {

class StatementParser {
 public:
  explicit StatementParser(std::vector<Segment> segments) : segments_(std::move(segments)) {}

  Template run() {
    Template statements = parse_until({});
    if (at_ < segments_.size())
      throw TemplateError(fmt::format("{{% {} %}} without its beginning", keyword()));
    return statements;
  }

 private:
  static constexpr int kMaxDepth = 100;

  const std::string& keyword() const { return segments_[at_].tokens.front().text; }

  // Statements up to a block tag whose keyword is one of `ends`, which is left to be read.
  std::vector<Statement> parse_until(std::initializer_list<std::string_view> ends) {
    if (++depth_ > kMaxDepth) throw TemplateError("blocks are nested too deeply");
    std::vector<Statement> statements;
    for (; at_ < segments_.size(); ++at_) {
      Segment& segment = segments_[at_];
      if (segment.kind == Segment::Kind::text) {
        Statement statement;
        statement.text = std::move(segment.text);
        statements.push_back(std::move(statement));
      } else if (segment.kind == Segment::Kind::output) {
        ExpressionParser parser(segment.tokens);
        Statement statement;
        statement.kind = Statement::Kind::output;
        statement.expression = parser.parse();
        parser.expect_end();
        statements.push_back(std::move(statement));
      } else {
        if (std::find(ends.begin(), ends.end(), keyword()) != ends.end()) break;
        if (keyword().rfind("end", 0) == 0 || keyword() == "else" || keyword() == "elif") break;
        statements.push_back(parse_block());
      }
    }
    --depth_;
    return statements;
  }

  // Reads the block tag at hand, with its body; stops at the tag that ends it.
  Statement parse_block() {
    ExpressionParser parser(segments_[at_].tokens);
    const std::string word = parser.take_name();
    if (word == "if") return parse_if(parser);
    if (word == "for") return parse_for(parser);
    if (word == "set") return parse_set(parser);
    if (word == "macro") return parse_macro(parser);
    Statement statement;
    if (word == "break" || word == "continue") {
      statement.kind = word == "break" ? Statement::Kind::stop_loop : Statement::Kind::continue_loop;
    } else if (word == "generation") {
      statement.kind = Statement::Kind::generation;
      statement.body = parse_body("endgeneration");
    } else {
      throw TemplateError(fmt::format("the block tag '{}' is not supported", word));
    }
    return statement;
  }

  std::vector<Statement> parse_body(std::string_view end) {
    ++at_;
    std::vector<Statement> body = parse_until({end});
    expect_tag(end);
    return body;
  }

  void expect_tag(std::string_view end) const {
    if (at_ >= segments_.size() || keyword() != end)
      throw TemplateError(fmt::format("{{% {} %}} is missing", end));
  }

  Statement parse_if(ExpressionParser& parser) {
    Statement statement;
    statement.kind = Statement::Kind::condition;
    statement.expression = parser.parse();
    parser.expect_end();
    ++at_;
    statement.body = parse_until({"elif", "else", "endif"});
    if (at_ < segments_.size() && keyword() == "elif") {
      ExpressionParser next(segments_[at_].tokens);
      next.take_name();
      statement.otherwise.push_back(parse_if(next));
      return statement;
    }
    if (at_ < segments_.size() && keyword() == "else") statement.otherwise = parse_body("endif");
    expect_tag("endif");
    return statement;
  }

  Statement parse_for(ExpressionParser& parser) {
    Statement statement;
    statement.kind = Statement::Kind::loop;
    do {
      statement.names.push_back(parser.take_name());
    } while (parser.take_symbol(","));
    parser.expect_name("in");
    statement.expression = parser.parse_without_condition();
    if (parser.take_keyword("if")) statement.condition = parser.parse();
    parser.expect_end();
    ++at_;
    statement.body = parse_until({"else", "endfor"});
    if (at_ < segments_.size() && keyword() == "else") statement.otherwise = parse_body("endfor");
    expect_tag("endfor");
    return statement;
  }

  Statement parse_set(ExpressionParser& parser) {
    Statement statement;
    statement.kind = Statement::Kind::assign;
    statement.names.push_back(parser.take_name());
    if (parser.take_symbol(".")) statement.text = parser.take_name();
    if (parser.take_symbol("=")) {
      statement.expression = parser.parse();
      parser.expect_end();
    } else {
      parser.expect_end();
      statement.kind = Statement::Kind::assign_block;
      statement.body = parse_body("endset");
    }
    return statement;
  }

  Statement parse_macro(ExpressionParser& parser) {
    Statement statement;
    statement.kind = Statement::Kind::macro;
    statement.text = parser.take_name();
    parser.expect_symbol("(");
    while (!parser.take_symbol(")")) {
      std::string name = parser.take_name();
      ExpressionPtr preset = parser.take_symbol("=") ? parser.parse() : nullptr;
      statement.parameters.emplace_back(std::move(name), std::move(preset));
      parser.take_symbol(",");
    }
    parser.expect_end();
    statement.body = parse_body("endmacro");
    return statement;
  }

  std::vector<Segment> segments_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Template parse(std::string_view source) {
  return StatementParser(tokenize(source)).run();
}

}  // namespace autoglm::jinja
