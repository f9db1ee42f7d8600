// Conversations as a model reads them: the text, and which of its bytes are trained.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/data/conversation.h"
#include "trainer/data/data_options.h"
#include "trainer/data/special_tokens.h"
#include "trainer/data/template_spec.h"
#include "trainer/data/tokenizer/tokenizer.h"

namespace autoglm {

// Bytes [begin, end) of a rendered text. A token that begins in there is trained.
struct LossSpan {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  bool as_eos = false;  // the label is the model's end-of-sequence token instead of the token itself
};

struct RenderedChat {
  std::string text;
  // What the model's own template renders ends here. Behind it stands what training adds: the token that ends
  // the last answer where the template leaves that to the next turn.
  std::size_t template_end = 0;
  std::vector<LossSpan> spans;      // ordered; where two overlap, the later one counts
  std::vector<LossSpan> untrained;  // turns that are left out whatever the loss is on; ordered
  // No markup: the tokens that the tokenizer itself puts first (bos) belong before it.
  bool running_text = false;
};

// A chosen template. Immutable, thread-safe.
class ChatTemplate {
 public:
  // The template that --template names, or with "auto" the one that the model's own template text amounts to:
  // the two must render the same on a set of probe chats. A model whose template is none of these is not an
  // error until a chat is to be rendered: running text needs no template. Throws Error(usage) for an unknown
  // name, Error(bad_data) when the tokenizer lacks a special token that the template writes.
  static ChatTemplate select(const std::string& name, const std::filesystem::path& model_directory,
                             const Tokenizer& tokenizer, EndOfTurn end_of_turn = EndOfTurn::user);

  // A template by itself, for tools and tests.
  ChatTemplate(TemplateSpec spec, SpecialTokens tokens, EndOfTurn end_of_turn = EndOfTurn::user);

  // "glm4"; "none" when auto found no template.
  const std::string& name() const { return spec_.name; }
  // Whether the choice of EndOfTurn changes anything.
  bool uses_end_of_turn() const { return spec_.next_turn_ends; }
  const SpecialTokens& special_tokens() const { return tokens_; }
  // Nothing when auto found no template.
  const TemplateSpec* spec() const { return missing_.empty() ? &spec_ : nullptr; }

  // The text to train on. The loss covers, for `assistant`, what the model writes in answer turns: content,
  // the lead before it (glm4's newline, llama2's space) and the token that ends it; for `all`, everything; less
  // the turns marked as not trained. Running text is trained wholly. Running text and what `plain` writes get the
  // eos at their end unless they end with an end token already. Throws SampleError when the template cannot
  // express the conversation, Error(bad_data) when there is no template, or no eos where one is to be written.
  RenderedChat render(const Conversation& conversation, LossOn loss_on) const;

  // The text after which the model answers: like apply_chat_template(add_generation_prompt=True).
  std::string render_prompt(const Conversation& conversation) const;

  // Ids of render_prompt() for one user turn. Without a template the prompt is running text.
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
  void check_turns(const Conversation& conversation) const;
  void check_fields_have_a_place(const Conversation& conversation, LossOn loss_on) const;
  bool ends_already(std::string_view text) const;
  void require_eos() const;
  void append_turns(const Conversation& conversation, RenderedChat& chat) const;
  void append_turn(const Message& message, std::string_view content, RenderedChat& chat) const;

  TemplateSpec spec_;
  SpecialTokens tokens_;
  EndOfTurn end_of_turn_ = EndOfTurn::user;
  std::string missing_;      // why there is no template; empty when there is one
  std::string eos_problem_;  // why the eos that the model names cannot be written; empty when it can
  // Tokens with which a text may end that is rendered already.
  std::vector<std::string> end_texts_;
};

// Ids that the tokenizer's post-processor puts before a text, such as bos.
std::vector<std::int32_t> leading_special_ids(const Tokenizer& tokenizer);

}  // namespace autoglm
