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

// What a field at `place` says of a message, which messages call `where`. Throws when another said otherwise.
void mark(std::string_view field, const std::string& place, bool trained, const std::string& where,
          Message& message) {
  if (trained && is_factor(field)) return;
  if (!message.marked_by.empty() && message.trained != trained) {
    refuse_sample("{} and {} contradict each other: one leaves it out of the loss, the other trains it",
                  message.marked_by, place);
  }
  message.marked_by = place;
  message.trained = trained;
  if (!trained) return;
  message.context = false;
  if (message.role == Role::assistant) return;
  message.wants_training = fmt::format(
      "{} is of the {} and \"{}\" wants it trained, but under --loss-on assistant only assistant turns are; "
      "take that away, or train all turns with --loss-on all",
      where, to_string(message.role), field);
}

// All mask fields of a turn.
void read_marks(const json& object, const std::string& where, Message& message) {
  for (const char* field : kMaskFields) {
    if (!has_field(object, field)) continue;
    const std::string place = fmt::format("\"{}\" of {}", field, where);
    mark(field, place, mask_of(object.at(field), place), where, message);
  }
}

// A list of one mark per turn. A system turn that stands apart from the turns may have one, in front.
void read_mark_list(const char* field, const json& list, bool system_apart, std::vector<Message>& messages) {
  const std::size_t first = system_apart && list.size() + 1 == messages.size() ? 1 : 0;
  if (list.size() + first != messages.size())
    refuse_sample("\"{}\" has {} entries for {} turns; it needs one per turn", field, list.size(),
                  messages.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].is_null()) continue;
    const std::size_t turn = first + i;
    const std::string where = system_apart && turn == 0
                                  ? "the system turn"
                                  : fmt::format("turn {}", turn + 1 - (system_apart ? 1 : 0));
    const std::string place = fmt::format("entry {} of \"{}\"", i + 1, field);
    mark(field, place, mask_of(list[i], place), where, messages[turn]);
  }
}

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
    if (name == tool) refuse_sample("{} is a \"{}\" turn; tool calls are not supported", where, name);
  }
  refuse_sample("{} has the unknown role \"{}\" (known: system, user or human, assistant or gpt)", where,
                name);
}

// The fields that hold a turn's role and content.
struct Spelling {
  const char* role;
  const char* content;
};
constexpr Spelling kRoleContent{"role", "content"};
constexpr Spelling kFromValue{"from", "value"};

bool is_whole(const json& turn, const Spelling& spelling) {
  return has_field(turn, spelling.role) && has_field(turn, spelling.content);
}

// Files that were put together from several may have both, one of them in part or null.
bool is_from_value(const json& turn) {
  if (is_whole(turn, kFromValue) || is_whole(turn, kRoleContent)) return is_whole(turn, kFromValue);
  return has_field(turn, "from") || (turn.contains("from") && !has_field(turn, "role"));
}

Role read_role(const json& turn, const char* key, const std::string& where) {
  const json& name = require_field(turn, key, where);
  return role_of(text_of(name, fmt::format("\"{}\" of {}", key, where)), where);
}

std::string read_content(const json& turn, const char* key, const std::string& where, SampleForm form,
                         std::vector<UnreadField>& unread) {
  return content_of(require_field(turn, key, where), fmt::format("\"{}\" of {}", key, where), form, unread);
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
      refuse_sample("{} has \"{}\", but {} of the assistant; put it into the content, or take it away", where,
                    field, where == "it" ? "no turn of its completion is" : "is not");
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
  const bool from_value = is_from_value(turn);
  const Spelling& read = from_value ? kFromValue : kRoleContent;
  const Spelling& other = from_value ? kRoleContent : kFromValue;
  Message message;
  message.role = read_role(turn, read.role, where);
  message.content = read_content(turn, read.content, where, form, unread);
  if ((has_field(turn, other.role) && read_role(turn, other.role, where) != message.role) ||
      (has_field(turn, other.content) &&
       read_content(turn, other.content, where, form, unread) != message.content)) {
    refuse_sample(
        "{} has \"from\" and \"value\" that differ from its \"role\" and \"content\"; keep one pair", where);
  }
  read_reasoning(turn, where, message);
  read_marks(turn, where, message);
  return message;
}

void apply_sample_masks(const json& sample, bool system_apart, std::vector<Message>& messages) {
  Message whole{Role::assistant, {}};
  for (const char* field : kMaskFields) {
    if (!has_field(sample, field)) continue;
    const json& value = sample.at(field);
    if (value.is_array()) {
      read_mark_list(field, value, system_apart, messages);
    } else {
      mark(field, fmt::format("\"{}\" of the sample", field), mask_of(value, fmt::format("\"{}\"", field)),
           "it", whole);
    }
  }
  if (whole.trained) return;
  for (Message& message : messages) message.trained = false;
}

}  // namespace autoglm
