// A conversation as a model's own template writes it, and where its texts stand in there.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/data/conversation.h"
#include "trainer/data/jinja/evaluator.h"
#include "trainer/data/template_program.h"
#include "trainer/data/text_places.h"

namespace autoglm {

// Keeps references to the program and the conversation.
class ChatLayout {
 public:
  // Renders the conversation, and again with marks instead of its texts: in nearly every chat that tells the places
  // of them all. Reasoning is given to the template under the name `reasoning_field`. Throws SampleError when the
  // template fails, and when it leaves out a turn or the reasoning of one.
  ChatLayout(const TemplateProgram& program, const Conversation& conversation,
             const std::string& reasoning_field);

  const std::string& text() const { return rendering_.text; }
  const jinja::Rendering& rendering() const { return rendering_; }
  const Conversation& conversation() const { return conversation_; }
  // Whether the text is exactly its markup with the conversation's texts in their places. Else the template looks into
  // the texts, and the markup around a place is not known.
  bool is_exact() const { return is_exact_; }
  // Whether that is so of all that this message says: of one that thinks first, the place may hold what follows.
  bool is_whole(std::size_t message) const {
    return is_exact_ && texts_[message].size() == turns_[message].content.size();
  }

  // Where the content of a message stands, and its reasoning; nothing when an empty one was not written.
  const std::optional<TextPlace>& content(std::size_t message) { return place(message); }
  const std::optional<TextPlace>& reasoning(std::size_t message) { return place(message + turns_.size()); }

  // The prompt for the answer that is this message; nothing when the template refuses it.
  std::optional<std::string> prompt_before(std::size_t message) const;

 private:
  std::string render_marked(std::size_t first, std::size_t end) const;
  const std::optional<TextPlace>& place(std::size_t index);
  bool find_all();
  void find_all_after_thoughts();
  void check_nothing_is_lost();

  const TemplateProgram& program_;
  const Conversation& conversation_;
  std::vector<TemplateTurn> turns_;
  jinja::Rendering rendering_;
  std::vector<std::string_view> texts_;  // what is marked: contents, then reasoning, one per message
  std::optional<Marks> marks_;
  bool is_exact_ = false;
  TextPlaces places_;
  std::vector<bool> is_searched_;  // places that are settled
  std::vector<bool> is_written_;   // marks that the template wrote when all were marked
};

// The turns of a conversation as a template sees them.
std::vector<TemplateTurn> turns_of(const Conversation& conversation, const std::string& reasoning_field);

// What the template writes. Throws SampleError when it refuses the chat or fails on it.
jinja::Rendering render_chat(const TemplateProgram& program, std::span<const TemplateTurn> turns,
                             bool generation_prompt);

}  // namespace autoglm
