// Renders and tokenizes chats for the Python parity tests: `render_tool MODEL TEMPLATE EOT LOSS_ON` reads one
// sample per line in any of the forms of data files, and writes per line what training would see. A sample
// that cannot be rendered gives {"error": ...}.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "trainer/data/chat_template.h"
#include "trainer/data/conversation.h"
#include "trainer/data/sample.h"

namespace {

using namespace autoglm;

nlohmann::json process(const std::string& line, const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                       LossOn loss_on) {
  const Conversation conversation = parse_conversation(line);
  const RenderedChat chat = chat_template.render(conversation, loss_on);
  const Sample sample = SampleTokenizer(tokenizer, chat_template, loss_on).tokenize(conversation);
  nlohmann::json result;
  result["template"] = chat_template.name();
  result["text"] = chat.text.substr(0, chat.template_end);
  result["appended"] = chat.text.substr(chat.template_end);
  result["ids"] = sample.ids;
  result["labels"] = sample.labels;
  if (conversation.form == Conversation::Form::chat)
    result["prompt"] = chat_template.render_prompt(conversation);
  result["stop_ids"] = chat_template.stop_ids(tokenizer);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 64;
  try {
    const Tokenizer tokenizer = Tokenizer::load(argv[1]);
    const EndOfTurn end_of_turn = std::string(argv[3]) == "eos" ? EndOfTurn::eos : EndOfTurn::user;
    const LossOn loss_on = std::string(argv[4]) == "all" ? LossOn::all : LossOn::assistant;
    const ChatTemplate chat_template = ChatTemplate::select(argv[2], argv[1], tokenizer, end_of_turn);
    for (std::string line; std::getline(std::cin, line);) {
      try {
        std::cout << process(line, chat_template, tokenizer, loss_on) << "\n";
      } catch (const SampleError& error) {
        std::cout << nlohmann::json{{"error", error.what()}} << "\n";
      }
    }
  } catch (const Error& error) {
    std::cerr << error.what() << "\n";
    return static_cast<int>(error.code());
  }
  return 0;
}
