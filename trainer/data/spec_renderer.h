// Rendering with a built-in template.
#pragma once

#include "trainer/data/chat_renderer.h"
#include "trainer/data/data_options.h"
#include "trainer/data/special_tokens.h"
#include "trainer/data/text_ending.h"

namespace autoglm {

class SpecRenderer : public ChatRenderer {
 public:
  SpecRenderer(TemplateSpec spec, const SpecialTokens& tokens, TextEnding ending, EndOfTurn end_of_turn);

  const std::string& name() const override { return spec_.name; }
  RenderedChat render(const Conversation& conversation) const override;
  std::string render_prompt(const Conversation& conversation) const override;
  const std::string& end_token() const override { return spec_.end_token; }
  std::vector<std::string> stop_tokens() const override { return spec_.stop_tokens; }
  bool next_turn_ends() const override { return spec_.next_turn_ends; }
  bool is_running_text() const override { return spec_.joins_with_newline; }
  const TemplateSpec* spec() const override { return &spec_; }

 private:
  void check_turns(const Conversation& conversation) const;
  void check_fields_have_a_place(const Conversation& conversation) const;
  void append_turns(const Conversation& conversation, RenderedChat& chat) const;
  void append_turn(const Message& message, std::string_view content, RenderedChat& chat) const;

  TemplateSpec spec_;
  TextEnding ending_;
  std::string answer_end_;  // what ends a last answer whose end the next turn would write
  EndOfTurn end_of_turn_;
};

}  // namespace autoglm
