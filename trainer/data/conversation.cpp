#include "trainer/data/conversation.h"

#include <fmt/core.h>

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/json.h"

namespace autoglm {
namespace {

using nlohmann::json;

template <typename... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
  throw SampleError(fmt::format(format, std::forward<Args>(args)...));
}

// Absent, null and empty all mean that the sample does not use the field.
bool is_set(const json& object, const char* key) {
  const auto field = object.find(key);
  return field != object.end() && !field->is_null() &&
         !(field->is_string() && field->get_ref<const std::string&>().empty()) &&
         !(field->is_structured() && field->empty());
}

const json& require(const json& object, const char* key, const std::string& where) {
  const auto field = object.find(key);
  if (field == object.end()) refuse("{} has no \"{}\"", where, key);
  return *field;
}

std::string text_of(const json& value, const std::string& what) {
  if (!value.is_string()) refuse("{} must be a string, not {}", what, value.type_name());
  return value.get<std::string>();
}

std::string optional_text(const json& object, const char* key) {
  return is_set(object, key) ? text_of(object.at(key), fmt::format("\"{}\"", key)) : std::string();
}

// A string, or a list of parts of which each must be text.
std::string content_of(const json& value, const std::string& what) {
  if (!value.is_array()) return text_of(value, what);
  std::string content;
  for (const json& part : value) {
    if (part.is_string()) {
      content += part.get_ref<const std::string&>();
      continue;
    }
    if (!part.is_object()) refuse("a part of {} must be an object, not {}", what, part.type_name());
    const std::string type =
        part.contains("type") ? text_of(part["type"], "the \"type\" of a part of " + what) : "text";
    if (type != "text") refuse("{} holds a part of type \"{}\"; only text can be trained on", what, type);
    content += text_of(require(part, "text", "a part of " + what), "\"text\" in " + what);
  }
  return content;
}

Role role_of(const std::string& name, const std::string& where) {
  static constexpr std::array<std::pair<std::string_view, Role>, 8> kNames = {{{"system", Role::system},
                                                                               {"user", Role::user},
                                                                               {"human", Role::user},
                                                                               {"assistant", Role::assistant},
                                                                               {"gpt", Role::assistant},
                                                                               {"chatgpt", Role::assistant},
                                                                               {"model", Role::assistant},
                                                                               {"bot", Role::assistant}}};
  for (const auto& [known, role] : kNames) {
    if (name == known) return role;
  }
  for (const std::string_view tool : {"tool", "function", "observation", "function_call", "ipython"}) {
    if (name == tool)
      refuse("{} is a \"{}\" turn; tool calls are not supported by the built-in templates", where, name);
  }
  refuse("{} has the unknown role \"{}\" (known: system, user or human, assistant or gpt)", where, name);
}

Message read_turn(const json& turn, std::size_t index) {
  const std::string where = fmt::format("turn {}", index + 1);
  if (!turn.is_object()) refuse("{} must be an object, not {}", where, turn.type_name());
  const bool sharegpt = turn.contains("from");
  for (const char* key : {"tool_calls", "function_call"}) {
    if (is_set(turn, key))
      refuse("{} has \"{}\"; tool calls are not supported by the built-in templates", where, key);
  }
  Message message;
  const char* role_key = sharegpt ? "from" : "role";
  message.role =
      role_of(text_of(require(turn, role_key, where), fmt::format("\"{}\" of {}", role_key, where)), where);
  const char* content_key = sharegpt ? "value" : "content";
  message.content =
      content_of(require(turn, content_key, where), fmt::format("\"{}\" of {}", content_key, where));
  if (turn.contains("weight")) {
    const json& weight = turn["weight"];
    if (!weight.is_number() || (weight != 0 && weight != 1)) refuse("\"weight\" of {} must be 0 or 1", where);
    message.trained = weight != 0;
  }
  return message;
}

void refuse_tools(const json& sample) {
  for (const char* key : {"tools", "functions"}) {
    if (is_set(sample, key))
      refuse("it has \"{}\"; tool calls are not supported by the built-in templates", key);
  }
  for (const char* key : {"images", "image", "videos", "audios"}) {
    if (is_set(sample, key)) refuse("it has \"{}\"; only text can be trained on", key);
  }
}

Conversation read_turns(const json& sample, const char* key) {
  const json& turns = sample.at(key);
  if (!turns.is_array()) refuse("\"{}\" must be a list, not {}", key, turns.type_name());
  if (turns.empty()) refuse("\"{}\" is empty", key);
  Conversation conversation;
  if (const std::string system = optional_text(sample, "system"); !system.empty()) {
    conversation.messages.push_back({Role::system, system});
  }
  for (std::size_t i = 0; i < turns.size(); ++i) {
    Message message = read_turn(turns[i], i);
    if (message.role == Role::system && !conversation.messages.empty()) {
      refuse("turn {} is a system turn; a system turn comes first, and there is at most one", i + 1);
    }
    conversation.messages.push_back(std::move(message));
  }
  return conversation;
}

Conversation read_alpaca(const json& sample) {
  Conversation conversation;
  if (std::string system = optional_text(sample, "system"); !system.empty()) {
    conversation.messages.push_back({Role::system, std::move(system)});
  }
  if (is_set(sample, "history")) {
    const json& history = sample["history"];
    if (!history.is_array()) refuse("\"history\" must be a list, not {}", history.type_name());
    for (const json& pair : history) {
      if (!pair.is_array() || pair.size() != 2)
        refuse("each entry of \"history\" must be [question, answer]");
      conversation.messages.push_back({Role::user, text_of(pair[0], "a question in \"history\"")});
      conversation.messages.push_back({Role::assistant, text_of(pair[1], "an answer in \"history\"")});
    }
  }
  std::string instruction = text_of(sample.at("instruction"), "\"instruction\"");
  if (const std::string input = optional_text(sample, "input"); !input.empty()) {
    if (!instruction.empty()) instruction += '\n';
    instruction += input;
  }
  conversation.messages.push_back({Role::user, std::move(instruction)});
  conversation.messages.push_back(
      {Role::assistant, text_of(require(sample, "output", "an alpaca sample"), "\"output\"")});
  return conversation;
}

Conversation read_completion(const json& sample) {
  Conversation conversation{Conversation::Form::completion, {}};
  conversation.messages.push_back({Role::user, text_of(sample.at("prompt"), "\"prompt\"")});
  conversation.messages.push_back({Role::assistant, text_of(sample.at("completion"), "\"completion\"")});
  return conversation;
}

Conversation read_text(const json& sample) {
  std::string text = text_of(sample.at("text"), "\"text\"");
  if (text.empty()) refuse("\"text\" is empty");
  Conversation conversation{Conversation::Form::text, {}};
  conversation.messages.push_back({Role::assistant, std::move(text)});
  return conversation;
}

}  // namespace

std::string_view to_string(Role role) {
  switch (role) {
    case Role::system:
      return "system";
    case Role::assistant:
      return "assistant";
    case Role::user:
      break;
  }
  return "user";
}

Conversation parse_conversation(std::string_view json_text) {
  const json sample = parse_json(json_text);
  if (!sample.is_object()) refuse("a sample must be a JSON object, not {}", sample.type_name());
  refuse_tools(sample);
  if (sample.contains("messages")) return read_turns(sample, "messages");
  if (sample.contains("conversations")) return read_turns(sample, "conversations");
  if (sample.contains("instruction")) return read_alpaca(sample);
  if (sample.contains("prompt") && sample.contains("completion")) return read_completion(sample);
  if (sample.contains("text")) return read_text(sample);
  refuse(
      "it has none of the fields that tell its form: \"messages\", \"conversations\", \"instruction\", "
      "\"prompt\" with \"completion\", or \"text\"");
}

}  // namespace autoglm
