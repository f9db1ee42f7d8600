#include "trainer/data/jinja/evaluator.h"

#include <fmt/core.h>

#include <algorithm>

#include "trainer/data/jinja/builtins.h"

namespace autoglm::jinja {
namespace {

constexpr int kMaxSteps = 1000000;
constexpr std::size_t kMaxOutput = std::size_t{4} << 20;
constexpr int kMaxCalls = 50;
constexpr int kMaxAssigned = 5000;

using Kind = Expression::Kind;

std::int64_t clamp_index(std::int64_t index, std::int64_t size) {
  return std::clamp<std::int64_t>(index < 0 ? index + size : index, 0, size);
}

std::vector<Value> characters_of(const std::string& text) {
  std::vector<Value> characters;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i + 1;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
    characters.emplace_back(text.substr(i, end - i));
    i = end;
  }
  return characters;
}

std::vector<Value> elements_of(const Value& value) {
  if (value.is_undefined()) return {};
  if (value.is_string()) return characters_of(value.as_string());
  if (!value.is_dict()) return value.items();
  std::vector<Value> keys;
  for (const auto& entry : value.entries()) keys.emplace_back(entry.first);
  return keys;
}

class Evaluator {
 public:
  explicit Evaluator(const Value& variables) : scopes_{global_functions(), Value::make_dict()} {
    for (const auto& [name, value] : variables.entries()) scopes_.back().set(name, value);
  }

  Rendering run(const Template& program) {
    execute(program);
    return {std::move(output_), std::move(generated_)};
  }

 private:
  enum class Flow { normal, stop_loop, continue_loop };

  void step() {
    if (++steps_ > kMaxSteps) throw TemplateError("the template runs for too long");
  }

  Value lookup(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const Value* found = scope->find(name)) return *found;
    }
    return Value();
  }

  void write(const std::string& text) {
    output_ += text;
    if (output_.size() > kMaxOutput) throw TemplateError("the template writes too much");
  }

  Flow execute(const std::vector<Statement>& statements) {
    for (const Statement& statement : statements) {
      const Flow flow = execute(statement);
      if (flow != Flow::normal) return flow;
    }
    return Flow::normal;
  }

  Flow execute(const Statement& statement) {
    step();
    switch (statement.kind) {
      case Statement::Kind::text:
        write(statement.text);
        break;
      case Statement::Kind::output:
        write(evaluate(*statement.expression).to_text());
        break;
      case Statement::Kind::condition:
        return execute(evaluate(*statement.expression).truth() ? statement.body : statement.otherwise);
      case Statement::Kind::loop:
        return execute_loop(statement);
      case Statement::Kind::assign:
        assign(statement);
        break;
      case Statement::Kind::assign_block: {
        Value text(capture(statement.body));  // first: it may move the scopes
        scopes_.back().set(statement.names.front(), std::move(text));
        break;
      }
      case Statement::Kind::macro:
        define_macro(statement);
        break;
      case Statement::Kind::generation:
        return execute_generation(statement);
      case Statement::Kind::stop_loop:
        return Flow::stop_loop;
      case Statement::Kind::continue_loop:
        return Flow::continue_loop;
    }
    return Flow::normal;
  }

  void assign(const Statement& statement) {
    const Value value = evaluate(*statement.expression);
    // So many may lie in each other: what walks them calls itself.
    if ((value.is_list() || value.is_dict()) && ++assigned_ > kMaxAssigned)
      throw TemplateError("the template sets too many lists and dictionaries");
    if (statement.text.empty()) {
      scopes_.back().set(statement.names.front(), value);
      return;
    }
    Value target = lookup(statement.names.front());
    if (value.holds(target)) throw TemplateError("a namespace would hold itself");
    target.set(statement.text, value);
  }

  std::string capture(const std::vector<Statement>& body) {
    std::string outer = std::move(output_);
    output_.clear();
    ++captures_;
    execute(body);
    --captures_;
    std::swap(outer, output_);
    return outer;
  }

  Flow execute_generation(const Statement& statement) {
    const std::size_t begin = output_.size();
    scopes_.push_back(Value::make_dict());
    const Flow flow = execute(statement.body);
    scopes_.pop_back();
    if (captures_ == 0) generated_.emplace_back(begin, output_.size());
    return flow;
  }

  void define_macro(const Statement& statement) {
    scopes_.back().set(statement.text, Value(Function([this, &statement](const Arguments& arguments) {
                         return call_macro(statement, arguments);
                       })));
  }

  Value call_macro(const Statement& macro, const Arguments& arguments) {
    if (++calls_ > kMaxCalls) throw TemplateError("macros call each other too deeply");
    Value scope = Value::make_dict();
    std::size_t position = 0;
    for (const auto& [name, preset] : macro.parameters) {
      const auto named = std::find_if(arguments.begin(), arguments.end(),
                                      [&](const auto& one) { return one.first == name; });
      if (named != arguments.end()) {
        scope.set(name, named->second);
      } else if (position < arguments.size() && arguments[position].first.empty()) {
        scope.set(name, arguments[position++].second);
      } else {
        scope.set(name, preset ? evaluate(*preset) : Value());
      }
    }
    // A macro sees the template's own variables and its parameters, not those of the place that calls it.
    std::vector<Value> callers(scopes_.begin() + 2, scopes_.end());
    scopes_.resize(2);
    scopes_.push_back(std::move(scope));
    std::string text = capture(macro.body);
    scopes_.resize(2);
    scopes_.insert(scopes_.end(), callers.begin(), callers.end());
    --calls_;
    return Value(std::move(text));
  }

  void bind_targets(const Statement& loop, const Value& element) {
    if (loop.names.size() == 1) {
      scopes_.back().set(loop.names.front(), element);
      return;
    }
    const std::vector<Value>& parts = element.items();
    if (parts.size() != loop.names.size())
      throw TemplateError("a loop takes apart what has another number of parts");
    for (std::size_t i = 0; i < parts.size(); ++i) scopes_.back().set(loop.names[i], parts[i]);
  }

  static Value loop_variables(const std::vector<Value>& elements, std::size_t index) {
    const auto number = [](std::size_t value) { return Value(static_cast<std::int64_t>(value)); };
    Value loop = Value::make_dict();
    loop.set("index", number(index + 1));
    loop.set("index0", number(index));
    loop.set("revindex", number(elements.size() - index));
    loop.set("revindex0", number(elements.size() - index - 1));
    loop.set("first", Value(index == 0));
    loop.set("last", Value(index + 1 == elements.size()));
    loop.set("length", number(elements.size()));
    if (index > 0) loop.set("previtem", elements[index - 1]);
    if (index + 1 < elements.size()) loop.set("nextitem", elements[index + 1]);
    return loop;
  }

  Flow execute_loop(const Statement& statement) {
    std::vector<Value> elements = elements_of(evaluate(*statement.expression));
    if (statement.condition) {
      scopes_.push_back(Value::make_dict());
      std::erase_if(elements, [&](const Value& element) {
        bind_targets(statement, element);
        return !evaluate(*statement.condition).truth();
      });
      scopes_.pop_back();
    }
    if (elements.empty()) return execute(statement.otherwise);
    for (std::size_t i = 0; i < elements.size(); ++i) {
      step();
      scopes_.push_back(Value::make_dict());
      bind_targets(statement, elements[i]);
      scopes_.back().set("loop", loop_variables(elements, i));
      const Flow flow = execute(statement.body);
      scopes_.pop_back();
      if (flow == Flow::stop_loop) break;
    }
    return Flow::normal;
  }

  Arguments evaluate_arguments(const Expression& expression) {
    Arguments arguments;
    for (const auto& [name, value] : expression.arguments) arguments.emplace_back(name, evaluate(*value));
    return arguments;
  }

  Value evaluate(const Expression& expression) {
    step();
    const auto operand = [&](std::size_t index) { return evaluate(*expression.operands[index]); };
    switch (expression.kind) {
      case Kind::literal:
        return expression.value;
      case Kind::name:
        return lookup(expression.text);
      case Kind::list: {
        std::vector<Value> items;
        for (const auto& item : expression.operands) items.push_back(evaluate(*item));
        return Value::make_list(std::move(items));
      }
      case Kind::dict: {
        Value dict = Value::make_dict();
        for (std::size_t i = 0; i < expression.operands.size(); i += 2)
          dict.set(operand(i).as_string(), operand(i + 1));
        return dict;
      }
      case Kind::attribute:
        return attribute(operand(0), expression.text);
      case Kind::index:
        return subscript(operand(0), operand(1));
      case Kind::slice:
        return slice(expression);
      case Kind::call:
        return operand(0).as_function()(evaluate_arguments(expression));
      case Kind::filter:
        return apply_filter(expression.text, operand(0), evaluate_arguments(expression));
      case Kind::test:
        return Value(apply_test(expression.text, operand(0), evaluate_arguments(expression)));
      case Kind::negation:
        return Value(!operand(0).truth());
      case Kind::minus:
        return Value(-operand(0).as_integer());
      case Kind::binary:
        return binary(expression);
      case Kind::conditional:
        if (operand(1).truth()) return operand(0);
        return expression.operands[2] ? operand(2) : Value();
    }
    return Value();
  }

  static Value attribute(const Value& value, const std::string& name) {
    if (value.is_undefined()) {
      throw TemplateError(fmt::format("'{}' is asked of a value that is not there", name));
    }
    Value method = bind_method(value, name);
    if (!method.is_undefined()) return method;
    const Value* found = value.is_dict() ? value.find(name) : nullptr;
    return found != nullptr ? *found : Value();
  }

  static Value subscript(const Value& value, const Value& key) {
    if (value.is_undefined()) throw TemplateError("an index is asked of a value that is not there");
    if (value.is_none()) return Value();
    if (value.is_dict()) {
      const Value* found = key.is_string() ? value.find(key.as_string()) : nullptr;
      return found != nullptr ? *found : Value();
    }
    const std::vector<Value> items = elements_of(value);
    const auto size = static_cast<std::int64_t>(items.size());
    const std::int64_t index = key.as_integer() < 0 ? key.as_integer() + size : key.as_integer();
    return index >= 0 && index < size ? items[static_cast<std::size_t>(index)] : Value();
  }

  Value slice(const Expression& expression) {
    const Value value = evaluate(*expression.operands[0]);
    const std::vector<Value> items = elements_of(value);
    const auto size = static_cast<std::int64_t>(items.size());
    const auto bound = [&](std::size_t index, std::int64_t otherwise) {
      return expression.operands[index] ? evaluate(*expression.operands[index]).as_integer() : otherwise;
    };
    const std::int64_t stride = bound(3, 1);
    std::vector<Value> part;
    if (stride == 1) {
      const std::int64_t end = clamp_index(bound(2, size), size);
      for (std::int64_t i = clamp_index(bound(1, 0), size); i < end; ++i)
        part.push_back(items[static_cast<std::size_t>(i)]);
    } else if (stride == -1 && !expression.operands[1] && !expression.operands[2]) {
      part.assign(items.rbegin(), items.rend());
    } else {
      throw TemplateError("a slice with a stride is not supported");
    }
    if (!value.is_string()) return Value::make_list(std::move(part));
    std::string text;
    for (const Value& character : part) text += character.as_string();
    return Value(std::move(text));
  }

  Value binary(const Expression& expression) {
    const std::string& name = expression.text;
    const Value left = evaluate(*expression.operands[0]);
    if (name == "and" || name == "or") {
      return left.truth() == (name == "or") ? left : evaluate(*expression.operands[1]);
    }
    const Value right = evaluate(*expression.operands[1]);
    if (name == "==") return Value(left.equals(right));
    if (name == "!=") return Value(!left.equals(right));
    if (name == "<") return Value(left.less(right));
    if (name == ">") return Value(right.less(left));
    if (name == "<=") return Value(!right.less(left));
    if (name == ">=") return Value(!left.less(right));
    if (name == "in") return Value(right.contains(left));
    if (name == "not in") return Value(!right.contains(left));
    if (name == "~") return Value(left.to_text() + right.to_text());
    if (name == "+") return add(left, right);
    return arithmetic(name, left.as_integer(), right.as_integer());
  }

  static Value add(const Value& left, const Value& right) {
    if (left.is_string()) return Value(left.as_string() + right.as_string());
    if (left.is_list()) {
      std::vector<Value> items = left.items();
      items.insert(items.end(), right.items().begin(), right.items().end());
      return Value::make_list(std::move(items));
    }
    return arithmetic("+", left.as_integer(), right.as_integer());
  }

  // Loop counters and lengths are all that templates compute with.
  static Value arithmetic(const std::string& name, std::int64_t left, std::int64_t right) {
    constexpr std::int64_t kLimit = std::int64_t{1} << 31;
    if (std::max(std::abs(left), std::abs(right)) > kLimit) throw TemplateError("a number is too large");
    if (name == "+") return Value(left + right);
    if (name == "-") return Value(left - right);
    if (name == "*") return Value(left * right);
    if ((name == "//" || name == "%") && right != 0) {
      const std::int64_t remainder = (left % right + right) % right;
      return Value(name == "%" ? remainder : (left - remainder) / right);
    }
    throw TemplateError(fmt::format("the operator '{}' is not supported here", name));
  }

  std::vector<Value> scopes_;  // functions, the template's variables, then one per loop
  std::string output_;
  std::vector<std::pair<std::size_t, std::size_t>> generated_;
  int captures_ = 0;
  int steps_ = 0;
  int calls_ = 0;
  int assigned_ = 0;
};

}  // namespace

Rendering render(const Template& program, const Value& variables) {
  return Evaluator(variables).run(program);
}

std::string evaluate(const Template& program, const Value& variables) {
  return render(program, variables).text;
}

}  // namespace autoglm::jinja
