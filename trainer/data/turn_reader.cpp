#include "trainer/data/turn_reader.h"

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

namespace autoglm {
namespace {

using nlohmann::json;

constexpr std::array kMaskFields{"weight", "train",     "training",   "trainable",
                                 "loss",   "loss_mask", "loss_weight"};

// A weight of 1 says nothing of turns that have no loss anyway; the other fields ask for one.
bool is_factor(std::string_view field) {
  return field == "weight" || field == "loss_weight";
}

std::string shown(const json& value) {
  if (value.is_structured()) return value.type_name();
  const std::string text = value.dump();
  return text.size() > 40 ? value.type_name() : text;
}

// `what` names the value in the refusal.
bool mask_of(const json& value, const std::string& what) {
  if (value.is_boolean()) return value.get<bool>();
  if (!value.is_number() || (value != 0 && value != 1))
    refuse_sample("{} must be 0 or 1, or false or true, not {}", what, shown(value));
  return value != 0;
}

// What several fields say of one message.
class Mask {
 public:
  explicit Mask(std::string where) : where_(std::move(where)) {}

  void read(const json& object) {
    for (const char* field : kMaskFields) {
      if (has_field(object, field))
        add(field, mask_of(object.at(field), fmt::format("\"{}\" of {}", field, where_)));
    }
  }

  void add(std::string_view field, bool trained) {
    if (trained && is_factor(field)) return;
    if (said_ && *said_ != trained) {
      refuse_sample(
          "\"{}\" and \"{}\" of {} contradict each other: one leaves it out of the loss, the other trains it",
          field_, field, where_);
    }
    said_ = trained;
    field_ = field;
  }

  void apply(Message& message) const {
    if (!said_) return;
    if (!*said_) {
      message.trained = false;
    } else if (message.role != Role::assistant) {
      message.wants_training = fmt::format(
          "{} is of the {} and \"{}\" wants it trained, but under --loss-on assistant only assistant turns "
          "are; "
          "take that away, or train all turns with --loss-on all",
          where_, to_string(message.role), field_);
    } else {
      message.context = false;
    }
  }

 private:
  std::string where_;
  std::optional<bool> said_;
  std::string field_;
};

// A string, or a list of parts of which each must be text.
std::string content_of(const json& value, const std::string& what, SampleForm form,
                       std::vector<UnreadField>& unread) {
  if (!value.is_array()) return text_of(value, what);
  std::string content;
  for (const json& part : value) {
    if (part.is_string()) {
      content += part.get_ref<const std::string&>();
      continue;
    }
    if (!part.is_object()) refuse_sample("a part of {} must be an object, not {}", what, part.type_name());
    const std::string type =
        has_field(part, "type") ? text_of(part["type"], "the \"type\" of a part of " + what) : "text";
    if (type != "text")
      refuse_sample("{} holds a part of type \"{}\"; only text can be trained on", what, type);
    check_fields(part, FieldPlace::part, form, "a part of " + what, unread);
    content += text_of(require_field(part, "text", "a part of " + what), "\"text\" in " + what);
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
      refuse_sample("{} is a \"{}\" turn; tool calls are not supported by the built-in templates", where,
                    name);
  }
  refuse_sample("{} has the unknown role \"{}\" (known: system, user or human, assistant or gpt)", where,
                name);
}

// Whether the spelling that is not read is there too, and differs.
bool says_otherwise(const json& turn, bool sharegpt, const Message& message, SampleForm form) {
  const char* role = sharegpt ? "role" : "from";
  const char* content = sharegpt ? "content" : "value";
  std::vector<UnreadField> ignored;
  return (has_field(turn, role) && role_of(text_of(turn.at(role), role), "a turn") != message.role) ||
         (has_field(turn, content) &&
          content_of(turn.at(content), content, form, ignored) != message.content);
}

}  // namespace

std::string text_of(const json& value, const std::string& what) {
  if (!value.is_string()) refuse_sample("{} must be a string, not {}", what, value.type_name());
  return value.get<std::string>();
}

const json& require_field(const json& object, const char* key, const std::string& where) {
  const auto field = object.find(key);
  if (field == object.end()) refuse_sample("{} has no \"{}\"", where, key);
  return *field;
}

void read_reasoning(const json& object, const std::string& where, Message& message) {
  for (const char* field : {"reasoning_content", "reasoning", "thinking"}) {
    if (!has_field(object, field) || is_unset(object.at(field))) continue;
    const std::string place = fmt::format("\"{}\" of {}", field, where == "it" ? "the sample" : where);
    std::string text = text_of(object.at(field), place);
    if (message.role != Role::assistant)
      refuse_sample("{} has \"{}\", but is not of the assistant; put it into the content, or take it away",
                    where, field);
    if (!message.reasoning.empty() && message.reasoning != text)
      refuse_sample("{} and {} differ; keep one", message.reasoning_place, place);
    message.reasoning = std::move(text);
    message.reasoning_place = place;
  }
}

Message read_turn(const json& turn, std::size_t index, SampleForm form, std::vector<UnreadField>& unread) {
  const std::string where = fmt::format("turn {}", index + 1);
  if (!turn.is_object()) refuse_sample("{} must be an object, not {}", where, turn.type_name());
  check_fields(turn, FieldPlace::turn, form, where, unread);
  const bool sharegpt = has_field(turn, "from") || (turn.contains("from") && !has_field(turn, "role"));
  Message message;
  const char* role_key = sharegpt ? "from" : "role";
  message.role = role_of(
      text_of(require_field(turn, role_key, where), fmt::format("\"{}\" of {}", role_key, where)), where);
  const char* content_key = sharegpt ? "value" : "content";
  message.content = content_of(require_field(turn, content_key, where),
                               fmt::format("\"{}\" of {}", content_key, where), form, unread);
  if (says_otherwise(turn, sharegpt, message, form))
    refuse_sample(
        "{} has \"from\" and \"value\" that differ from its \"role\" and \"content\"; keep one pair", where);
  read_reasoning(turn, where, message);
  Mask mask(where);
  mask.read(turn);
  mask.apply(message);
  return message;
}

void apply_sample_masks(const json& sample, std::vector<Message>& messages) {
  const bool has_system = messages.front().role == Role::system;
  for (const char* field : kMaskFields) {
    if (!has_field(sample, field)) continue;
    const json& value = sample.at(field);
    if (!value.is_array()) {
      if (mask_of(value, fmt::format("\"{}\"", field))) continue;
      for (Message& message : messages) message.trained = false;
      continue;
    }
    const std::size_t first = value.size() + 1 == messages.size() && has_system ? 1 : 0;
    if (value.size() + first != messages.size())
      refuse_sample("\"{}\" has {} entries for {} turns; it needs one per turn", field, value.size(),
                    messages.size());
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (value[i].is_null()) continue;
      Mask mask(fmt::format("turn {}", i + 1));
      mask.add(field, mask_of(value[i], fmt::format("entry {} of \"{}\"", i + 1, field)));
      mask.apply(messages[first + i]);
    }
  }
}

}  // namespace autoglm
