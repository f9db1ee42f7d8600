// Conversations as a model reads them: the text, and which of its bytes are trained.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/data/chat_renderer.h"
#include "trainer/data/conversation.h"
#include "trainer/data/data_options.h"
#include "trainer/data/rendered_chat.h"
#include "trainer/data/special_tokens.h"
#include "trainer/data/template_spec.h"
#include "trainer/data/text_ending.h"
#include "trainer/data/tokenizer/tokenizer.h"

namespace autoglm {

// A chosen template. Immutable, thread-safe.
class ChatTemplate {
 public:
  // The template that --template names, or with "auto" the built-in one that the model's own template text amounts
  // to (the two must render the same on a set of probe chats), else that text itself, evaluated. A model that has
  // none, or one that cannot be evaluated, is not an error until a chat is to be rendered: running text needs no
  // template. Throws Error(usage) for an unknown name, Error(bad_data) when the tokenizer lacks a special token that
  // a built-in template writes.
  static ChatTemplate select(const std::string& name, const std::filesystem::path& model_directory,
                             const Tokenizer& tokenizer, EndOfTurn end_of_turn = EndOfTurn::user);

  // A template by itself, for tools and tests.
  ChatTemplate(TemplateSpec spec, SpecialTokens tokens, EndOfTurn end_of_turn = EndOfTurn::user);

  // "glm4"; "own" for the model's own that is none of the built-in ones; "none" when auto found no template.
  const std::string& name() const;
  // Whether chats can be rendered.
  bool exists() const { return renderer_ != nullptr; }
  // Whether the choice of EndOfTurn changes anything.
  bool uses_end_of_turn() const { return renderer_ && renderer_->next_turn_ends(); }
  const SpecialTokens& special_tokens() const { return tokens_; }
  // The built-in template; nullptr when it is the model's own, and when auto found none.
  const TemplateSpec* spec() const { return renderer_ ? renderer_->spec() : nullptr; }

  // The text to train on. The loss covers, for `assistant`, what the model writes in answer turns: content,
  // the lead before it (glm4's newline, llama2's space) and the token that ends it; for `all`, everything; less
  // the turns marked as not trained. Running text is trained wholly. Running text and what `plain` writes get the
  // eos at their end unless they end with an end token already. Throws SampleError when the template cannot
  // express the conversation, Error(bad_data) when there is no template, or no eos where one is to be written.
  RenderedChat render(const Conversation& conversation, LossOn loss_on) const;

  // The text after which the model answers: like apply_chat_template(add_generation_prompt=True).
  std::string render_prompt(const Conversation& conversation) const;

  // Ids of render_prompt() for one user turn. Without a template the prompt is running text. Throws Error(bad_data)
  // when the template refuses it.
  std::vector<std::int32_t> encode_prompt(const std::string& user_turn, const Tokenizer& tokenizer) const;

  // Ids at which an answer ends: the template's own and those of the model's generation settings. Not in the
  // answer.
  std::vector<std::int32_t> stop_ids(const Tokenizer& tokenizer) const;

  // The token that ends an answer: the template's, else the model's end of sequence. Absent where there is neither.
  std::optional<std::string> end_token() const;

  // The label where a span says as_eos; absent when the tokenizer has no end-of-sequence token.
  std::optional<std::int32_t> eos_id(const Tokenizer& tokenizer) const;

 private:
  ChatTemplate() = default;
  RenderedChat render_text(const Conversation& conversation) const;
  const ChatRenderer& renderer() const;
  void choose_own(const std::filesystem::path& model_directory, const Tokenizer& tokenizer,
                  EndOfTurn end_of_turn);
  void choose_built_in(TemplateSpec spec, const std::filesystem::path& model_directory,
                       const Tokenizer& tokenizer, EndOfTurn end_of_turn);

  std::shared_ptr<const ChatRenderer> renderer_;  // null when auto found no template
  std::string missing_;                           // then, why
  SpecialTokens tokens_;
  TextEnding ending_;
};

// Ids that the tokenizer's post-processor puts before a text, such as bos.
std::vector<std::int32_t> leading_special_ids(const Tokenizer& tokenizer);

}  // namespace autoglm
