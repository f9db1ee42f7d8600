// Rendering with a model's own chat template, whatever it writes.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/data/chat_layout.h"
#include "trainer/data/chat_renderer.h"
#include "trainer/data/data_options.h"
#include "trainer/data/special_tokens.h"
#include "trainer/data/template_probe.h"
#include "trainer/data/template_program.h"
#include "trainer/data/tokenizer/tokenizer.h"

namespace autoglm {

// The text is the template's, byte for byte. What is trained of it is found by running the template: an answer begins
// where the prompt for it ends, and it ends behind the end token that follows its content. A template that marks what
// the model writes with {% generation %} is taken at its word.
class OwnTemplate : public ChatRenderer {
 public:
  // `end_tokens` are tokens that end answers in some template, the model's eos among them. Throws
  // jinja::TemplateError, which says why, for a template that cannot be evaluated or never ends an answer.
  OwnTemplate(std::string_view text, const SpecialTokens& tokens, std::vector<std::string> end_tokens,
              const Tokenizer& tokenizer, EndOfTurn end_of_turn);

  const std::string& name() const override;
  RenderedChat render(const Conversation& conversation) const override;
  std::string render_prompt(const Conversation& conversation) const override;
  const std::string& end_token() const override { return traits_.end_token; }
  bool next_turn_ends() const override { return traits_.next_turn_ends; }

 private:
  // In bytes of the text.
  struct Answer {
    std::size_t begin = 0;
    std::size_t content_end = 0;
    std::size_t token_begin = 0;  // of the end token behind it
    std::size_t token_end = 0;    // token_begin when there is none
    bool opens_otherwise = false;
  };

  void check_reasoning(const Conversation& conversation) const;
  std::optional<std::size_t> opening_end(ChatLayout& layout, std::size_t message, const TextPlace& first,
                                         std::size_t content_end) const;
  std::optional<Answer> find_answer(ChatLayout& layout, std::size_t message) const;
  void add_answer(const ChatLayout& layout, std::size_t message, const Answer& answer,
                  RenderedChat& chat) const;
  void add_marked_answers(ChatLayout& layout, RenderedChat& chat) const;
  void add_untrained(ChatLayout& layout, std::size_t message, RenderedChat& chat) const;

  TemplateProgram program_;
  TemplateTraits traits_;
  std::string last_answer_end_;  // what is written behind a last answer that the next turn would end
  bool end_is_eos_ = false;      // --eot eos
};

}  // namespace autoglm
