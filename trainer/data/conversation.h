// Conversations, and the forms in which data sets write them.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

enum class Role { system, user, assistant };
std::string_view to_string(Role role);

struct Message {
  Role role = Role::user;
  std::string content;  // valid UTF-8
  bool trained = true;  // false: an assistant turn that is left out of the loss ("weight": 0)
};

struct Conversation {
  enum class Form {
    chat,        // turns for a chat template
    completion,  // a prompt and its completion: user and assistant; `plain` joins them as they are
    text,        // one message that holds running text; needs no template
  };
  Form form = Form::chat;
  std::vector<Message> messages;  // at least one
};

// What is wrong with one sample, without its place; the reader of the file adds that.
class SampleError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Reads one sample: a JSON object in one of these forms, told apart by their keys.
//   messages:     [{"role", "content"}, ...]; content is a string or a list of {"type": "text", "text"} parts
//   sharegpt:     "conversations": [{"from", "value"}, ...], "system"
//   alpaca:       "instruction", "input", "output", "system", "history" [[question, answer], ...]
//   completion:   "prompt", "completion"
//   text:         "text"
// A system turn comes first or not at all. Throws SampleError for anything else, tools and images included,
// and JsonError for broken JSON.
Conversation parse_conversation(std::string_view json_text);

}  // namespace autoglm
