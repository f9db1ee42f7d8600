// What ChatTemplate needs of a template, built in or a model's own.
#pragma once

#include <string>
#include <vector>

#include "trainer/data/conversation.h"
#include "trainer/data/rendered_chat.h"
#include "trainer/data/template_spec.h"

namespace autoglm {

// Immutable, thread-safe.
class ChatRenderer {
 public:
  virtual ~ChatRenderer() = default;

  virtual const std::string& name() const = 0;
  // Text, `spans` of what the model writes in trained answers, and `untrained` turns. Throws SampleError when the
  // template cannot express the conversation.
  virtual RenderedChat render(const Conversation& conversation) const = 0;
  // The text after which the model answers. Throws SampleError.
  virtual std::string render_prompt(const Conversation& conversation) const = 0;
  // The token that ends an answer; empty where that is the model's end of sequence.
  virtual const std::string& end_token() const = 0;
  // Further tokens at which an answer ends.
  virtual std::vector<std::string> stop_tokens() const { return {}; }
  // No end token of its own: the token that opens the next turn ends an answer.
  virtual bool next_turn_ends() const = 0;
  // It has no markup: what it writes is running text.
  virtual bool is_running_text() const { return false; }
  // The built-in template as data; nullptr for a model's own.
  virtual const TemplateSpec* spec() const { return nullptr; }
};

}  // namespace autoglm
