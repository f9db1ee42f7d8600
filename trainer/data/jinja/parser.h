// The syntax tree of a template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trainer/data/jinja/value.h"

namespace autoglm::jinja {

struct Expression {
  enum class Kind {
    literal,      // value
    name,         // text
    list,         // operands
    dict,         // operands: key, value, key, value, ...
    attribute,    // operands[0].text
    index,        // operands[0][operands[1]]
    slice,        // operands[0][operands[1]:operands[2]:operands[3]], each of these null when left out
    call,         // operands[0](arguments)
    filter,       // operands[0]|text(arguments)
    test,         // operands[0] is text(arguments)
    negation,     // not operands[0]
    minus,        // -operands[0]
    binary,       // operands[0] text operands[1]; text is the operator, "and", "or", "in" among them
    conditional,  // operands[0] if operands[1] else operands[2] (null when left out)
  };
  Kind kind = Kind::literal;
  std::string text;
  Value value;
  std::vector<std::unique_ptr<Expression>> operands;
  std::vector<std::pair<std::string, std::unique_ptr<Expression>>> arguments;
};
using ExpressionPtr = std::unique_ptr<Expression>;

struct Statement {
  enum class Kind {
    text,           // text
    output,         // expression
    condition,      // if expression: body, else: otherwise
    loop,           // for names in expression if condition: body, else: otherwise
    assign,         // set names[0] = expression, or names[0].text = expression
    assign_block,   // set names[0]: body
    macro,          // macro text(parameters): body
    generation,     // body: what the model writes itself ({% generation %})
    stop_loop,      // break
    continue_loop,  // continue
  };
  Kind kind = Kind::text;
  std::string text;
  std::vector<std::string> names;
  ExpressionPtr expression;
  ExpressionPtr condition;
  std::vector<std::pair<std::string, ExpressionPtr>> parameters;  // defaults are null when there are none
  std::vector<Statement> body;
  std::vector<Statement> otherwise;
};

using Template = std::vector<Statement>;

// Parses the part of Jinja that chat templates use. Throws TemplateError.
Template parse(std::string_view source);

}  // namespace autoglm::jinja
