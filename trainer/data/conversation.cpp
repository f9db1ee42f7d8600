#include "trainer/data/conversation.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/json.h"
#include "trainer/data/sample_fields.h"
#include "trainer/data/turn_reader.h"

namespace autoglm {
namespace {

using nlohmann::json;

// Absent, null and empty all mean that the sample does not use the field.
bool is_set(const json& object, const char* key) {
  if (!has_field(object, key)) return false;
  const json& field = object.at(key);
  return !(field.is_string() && field.get_ref<const std::string&>().empty()) &&
         !(field.is_structured() && field.empty());
}

std::string optional_text(const json& object, const char* key) {
  return is_set(object, key) ? text_of(object.at(key), fmt::format("\"{}\"", key)) : std::string();
}

void add_system(const json& sample, Conversation& conversation) {
  std::string system = optional_text(sample, "system");
  std::string prompt = optional_text(sample, "system_prompt");
  if (!system.empty() && !prompt.empty() && system != prompt)
    refuse_sample("it has both \"system\" and \"system_prompt\", and they differ; keep one");
  if (system.empty()) system = std::move(prompt);
  if (!system.empty()) conversation.messages.push_back({Role::system, std::move(system)});
}

// `before` turns of the sample stand before these; messages about turns count from the first.
void add_turns(const json& turns, const char* key, SampleForm form, std::size_t before,
               Conversation& conversation) {
  if (!turns.is_array()) refuse_sample("\"{}\" must be a list, not {}", key, turns.type_name());
  if (turns.empty()) refuse_sample("\"{}\" is empty", key);
  for (std::size_t i = 0; i < turns.size(); ++i) {
    Message message = read_turn(turns[i], before + i, form, conversation.unread);
    if (message.role == Role::system && !conversation.messages.empty()) {
      refuse_sample("turn {} is a system turn; a system turn comes first, and there is at most one",
                    before + i + 1);
    }
    conversation.messages.push_back(std::move(message));
  }
}

Conversation read_turns(const json& sample, const char* key, SampleForm form) {
  Conversation conversation;
  add_system(sample, conversation);
  add_turns(sample.at(key), key, form, 0, conversation);
  return conversation;
}

Conversation read_alpaca(const json& sample) {
  Conversation conversation;
  add_system(sample, conversation);
  if (is_set(sample, "history")) {
    const json& history = sample["history"];
    if (!history.is_array()) refuse_sample("\"history\" must be a list, not {}", history.type_name());
    for (const json& pair : history) {
      if (!pair.is_array() || pair.size() != 2)
        refuse_sample("each entry of \"history\" must be [question, answer]");
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
      {Role::assistant, text_of(require_field(sample, "output", "an alpaca sample"), "\"output\"")});
  read_reasoning(sample, "it", conversation.messages.back());
  return conversation;
}

// One side of a prompt and its completion, with `before` turns before it: a text is a turn of `role`.
void add_side(const json& sample, const char* key, Role role, std::size_t before,
              Conversation& conversation) {
  const json& side = sample.at(key);
  const std::size_t first = conversation.messages.size();
  if (side.is_array()) {
    add_turns(side, key, kCompletionForm, before, conversation);
  } else if (side.is_string() || !sample.at(role == Role::user ? "completion" : "prompt").is_array()) {
    conversation.messages.push_back({role, text_of(side, fmt::format("\"{}\"", key))});
  } else {
    refuse_sample("\"{}\" must be a string or a list of turns, not {}", key, side.type_name());
  }
  if (role == Role::assistant) return;
  for (std::size_t i = first; i < conversation.messages.size(); ++i) {
    Message& message = conversation.messages[i];
    message.context = message.marked_by.empty() || !message.trained;
  }
}

Conversation read_completion(const json& sample) {
  const bool turns = sample.at("prompt").is_array() || sample.at("completion").is_array();
  Conversation conversation{turns ? Conversation::Form::chat : Conversation::Form::completion, {}};
  add_system(sample, conversation);
  const std::size_t system_turns = conversation.messages.size();
  add_side(sample, "prompt", Role::user, 0, conversation);
  const std::size_t prompt_turns = conversation.messages.size();
  add_side(sample, "completion", Role::assistant, prompt_turns - system_turns, conversation);
  const auto answer = std::find_if(conversation.messages.begin() + static_cast<std::ptrdiff_t>(prompt_turns),
                                   conversation.messages.end(),
                                   [](const Message& message) { return message.role == Role::assistant; });
  Message nobody;
  read_reasoning(sample, "it", answer == conversation.messages.end() ? nobody : *answer);
  return conversation;
}

Conversation read_text(const json& sample) {
  std::string text = text_of(sample.at("text"), "\"text\"");
  if (text.empty()) refuse_sample("\"text\" is empty");
  Conversation conversation{Conversation::Form::text, {}};
  conversation.messages.push_back({Role::assistant, std::move(text)});
  return conversation;
}

// Whether the fields that tell a form are there, and whether one of them is filled.
struct Presence {
  SampleForm form;
  bool there;
  bool filled;
};

std::optional<SampleForm> form_of(const json& sample) {
  const bool answered = has_field(sample, "prompt") && has_field(sample, "completion");
  const std::array<Presence, 5> forms{{
      {kMessagesForm, has_field(sample, "messages"), is_set(sample, "messages")},
      {kConversationsForm, has_field(sample, "conversations"), is_set(sample, "conversations")},
      {kAlpacaForm, has_field(sample, "instruction"),
       is_set(sample, "instruction") || is_set(sample, "input") || is_set(sample, "output")},
      {kCompletionForm, answered, is_set(sample, "prompt") || is_set(sample, "completion")},
      {kTextForm, has_field(sample, "text"), is_set(sample, "text")},
  }};
  std::optional<SampleForm> empty;
  for (const auto& [form, there, filled] : forms) {
    if (there && filled) return form;
    if (there && !empty) empty = form;
  }
  return empty;
}

Conversation read_form(const json& sample, SampleForm form) {
  if (form == kMessagesForm) return read_turns(sample, "messages", form);
  if (form == kConversationsForm) return read_turns(sample, "conversations", form);
  if (form == kAlpacaForm) return read_alpaca(sample);
  if (form == kCompletionForm) return read_completion(sample);
  return read_text(sample);
}

bool is_turn(const json& value) {
  return value.is_object() && ((value.contains("role") && value.contains("content")) ||
                               (value.contains("from") && value.contains("value")));
}

[[noreturn]] void refuse_form(const json& sample) {
  constexpr std::string_view kWayOut =
      "put the list of turns of each sample into an object: {\"messages\": [...]}";
  if (is_turn(sample)) refuse_sample("it is a turn, not a sample; {}", kWayOut);
  if (sample.is_array() && !sample.empty() && is_turn(sample.front()))
    refuse_sample("a sample must be a JSON object, not a list of turns; {}", kWayOut);
  if (!sample.is_object()) refuse_sample("a sample must be a JSON object, not {}", sample.type_name());
  refuse_sample(
      "it has none of the fields that tell its form: \"messages\", \"conversations\", \"instruction\", "
      "\"prompt\" with \"completion\", or \"text\"");
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

std::string_view to_string(FieldPlace place) {
  switch (place) {
    case FieldPlace::turn:
      return "turn";
    case FieldPlace::part:
      return "part";
    case FieldPlace::sample:
      break;
  }
  return "sample";
}

Conversation parse_conversation(std::string_view json_text) {
  const json sample = parse_json(json_text);
  const std::optional<SampleForm> form = sample.is_object() ? form_of(sample) : std::nullopt;
  std::vector<UnreadField> unread;
  // Before anything else of it is judged: of a sample with tools that is what has to be said.
  if (sample.is_object()) check_fields(sample, FieldPlace::sample, form.value_or(kNoForm), "it", unread);
  if (!form) refuse_form(sample);
  Conversation conversation = read_form(sample, *form);
  const bool system_apart =
      *form != kTextForm && (is_set(sample, "system") || is_set(sample, "system_prompt"));
  apply_sample_masks(sample, system_apart, conversation.messages);
  conversation.unread.insert(conversation.unread.begin(), unread.begin(), unread.end());
  return conversation;
}

}  // namespace autoglm
