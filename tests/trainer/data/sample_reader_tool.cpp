// Reads samples for the fuzz of the sample reader: one JSON value per line in, what was read of it per line out, or
// {"refused": ...}.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/json.h"
#include "trainer/data/conversation.h"

namespace {

using namespace autoglm;
using nlohmann::json;

// Under which --loss-on a turn is trained: "always", "all" or "never".
std::string trained_under(const Message& message) {
  if (!message.trained) return "never";
  return message.role == Role::assistant && !message.context ? "always" : "all";
}

std::string_view to_string(Conversation::Form form) {
  switch (form) {
    case Conversation::Form::chat:
      return "chat";
    case Conversation::Form::completion:
      return "completion";
    case Conversation::Form::text:
      break;
  }
  return "text";
}

json read(const std::string& line) {
  const Conversation conversation = parse_conversation(line);
  json turns = json::array();
  for (const Message& message : conversation.messages) {
    turns.push_back({{"role", autoglm::to_string(message.role)},
                     {"content", message.content},
                     {"trained", trained_under(message)},
                     {"reasoning", message.reasoning},
                     {"wants_training", message.wants_training}});
  }
  json unread = json::array();
  for (const UnreadField& field : conversation.unread)
    unread.push_back({autoglm::to_string(field.place), field.name});
  return {{"form", to_string(conversation.form)}, {"turns", turns}, {"unread", unread}};
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    json result;
    try {
      result = read(line);
    } catch (const SampleError& error) {
      result = {{"refused", error.what()}};
    } catch (const JsonError& error) {
      result = {{"broken", error.what()}};
    }
    std::cout << result.dump(-1, ' ', true) << "\n";
  }
  return 0;
}
