#include "trainer/data/template_program.h"

#include <ctime>

#include "trainer/data/jinja/parser.h"

namespace autoglm {
namespace {

using jinja::Value;

// strftime_now(format), of the moment at which it is made: all samples of a training have the same date.
jinja::Function date_writer() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  return [local](const jinja::Arguments& arguments) {
    if (arguments.empty()) throw jinja::TemplateError("strftime_now needs a format");
    // A blank in front tells an empty result from one that is too long.
    const std::string format = " " + arguments.front().second.as_string();
    std::string text(1024, '\0');
    text.resize(std::strftime(text.data(), text.size(), format.c_str(), &local));
    if (text.empty()) throw jinja::TemplateError("the format of strftime_now is too long");
    return Value(text.substr(1));
  };
}

}  // namespace

TemplateProgram::TemplateProgram(std::string_view text, const SpecialTokens& tokens, Date date)
    : program_(jinja::parse(text)) {
  variables_.emplace_back("tools", Value::none());
  variables_.emplace_back("documents", Value::none());
  if (tokens.bos) variables_.emplace_back("bos_token", Value(*tokens.bos));
  if (tokens.eos) variables_.emplace_back("eos_token", Value(*tokens.eos));
  if (tokens.pad) variables_.emplace_back("pad_token", Value(*tokens.pad));
  for (const auto& [name, token] : tokens.others) variables_.emplace_back(name, Value(token));
  if (date == Date::today) variables_.emplace_back("strftime_now", Value(date_writer()));
}

jinja::Rendering TemplateProgram::render(std::span<const TemplateTurn> turns, bool generation_prompt) const {
  std::vector<Value> messages;
  for (const TemplateTurn& turn : turns) {
    Value message = Value::make_dict();
    message.set("role", Value(std::string(to_string(turn.role))));
    message.set("content", Value(std::string(turn.content)));
    if (!turn.reasoning_field.empty())
      message.set(std::string(turn.reasoning_field), Value(std::string(turn.reasoning)));
    messages.push_back(message);
  }
  Value variables = Value::make_dict();
  variables.set("messages", Value::make_list(std::move(messages)));
  variables.set("add_generation_prompt", Value(generation_prompt));
  for (const auto& [name, value] : variables_) variables.set(name, value);
  return jinja::render(program_, variables);
}

}  // namespace autoglm
