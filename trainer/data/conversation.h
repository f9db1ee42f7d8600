// Conversations, and the forms in which data sets write them.
#pragma once

#include <compare>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

enum class Role { system, user, assistant };
std::string_view to_string(Role role);

struct Message {
  Role role = Role::user;
  std::string content;   // valid UTF-8
  bool trained = true;   // false: left out of the loss ("weight": 0), whatever the loss is on
  bool context = false;  // an assistant turn that is part of a prompt: trained only where everything is
  // What the assistant thinks before it answers, and where that stands ("reasoning" of turn 2).
  std::string reasoning = {};
  std::string reasoning_place = {};
  std::string marked_by = {};  // what says whether it is trained: "train" of turn 2
  // Not empty: the sample wants a turn trained that is not the assistant's; why that is refused unless everything
  // is trained.
  std::string wants_training = {};
};

// What a field belongs to: a sample, a turn, or a part of a turn's content.
enum class FieldPlace { sample, turn, part };
std::string_view to_string(FieldPlace place);

// A field that was not empty and that nobody reads.
struct UnreadField {
  FieldPlace place = FieldPlace::sample;
  std::string name;

  auto operator<=>(const UnreadField&) const = default;
};

struct Conversation {
  enum class Form {
    chat,        // turns for a chat template
    completion,  // a prompt and its completion: user and assistant; `plain` joins them as they are
    text,        // one message that holds running text; needs no template
  };
  Form form = Form::chat;
  std::vector<Message> messages;  // at least one
  std::vector<UnreadField> unread = {};
};

// What is wrong with one sample, without its place; the reader of the file adds that.
class SampleError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Reads one sample: a JSON object in one of these forms, told apart by those of their fields that are not null or
// empty.
//   messages:     [{"role", "content"}, ...]; content is a string or a list of {"type": "text", "text"} parts
//   sharegpt:     "conversations": [{"from", "value"}, ...], "system"
//   alpaca:       "instruction", "input", "output", "system", "history" [[question, answer], ...]
//   completion:   "prompt", "completion": texts, or lists of turns, of which the completion's are trained
//   text:         "text"
// What is known of each form's fields is in sample_fields.h. A system turn comes first or not at all. Throws
// SampleError for anything else, tools and images included, and JsonError for broken JSON.
Conversation parse_conversation(std::string_view json_text);

}  // namespace autoglm
