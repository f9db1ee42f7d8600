#include "trainer/data/chat_template.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "trainer/data/own_template.h"
#include "trainer/data/spec_renderer.h"
#include "trainer/data/template_recognition.h"

namespace autoglm {
namespace {

// Whether the tokenizer reads a text as the one token that it is meant to be.
bool is_one_token(const std::string& text, const Tokenizer& tokenizer) {
  const auto id = tokenizer.token_to_id(text);
  return id && tokenizer.encode(text) == std::vector<std::int32_t>{*id};
}

// The tokens that end turns in any template, and the model's eos.
std::vector<std::string> end_tokens(const SpecialTokens& tokens, const Tokenizer& tokenizer) {
  std::vector<std::string> ends;
  const auto add = [&](const std::string& token) {
    if (!token.empty() && is_one_token(token, tokenizer)) ends.push_back(token);
  };
  add(tokens.eos.value_or(""));
  for (const std::int32_t id : tokens.stop_ids) add(tokenizer.decode({&id, 1}, false));
  for (const TemplateSpec& spec : builtin_templates(tokens)) add(spec.end_token);
  return ends;
}

void check_special_tokens(const TemplateSpec& spec, const std::filesystem::path& model_directory,
                          const Tokenizer& tokenizer) {
  for (const std::string& token : spec.special_tokens) {
    if (is_one_token(token, tokenizer)) continue;
    fail(ExitCode::bad_data,
         "the tokenizer of the model in {} {} token {}, which the template {} writes; name another with "
         "--template ({})",
         model_directory.string(), tokenizer.token_to_id(token) ? "does not find in texts its" : "has no",
         token, spec.name, fmt::join(builtin_template_names(), ", "));
  }
}

// `all` less `holes`, both ordered.
std::vector<LossSpan> subtract(LossSpan all, const std::vector<LossSpan>& holes) {
  std::vector<LossSpan> rest;
  for (const LossSpan& hole : holes) {
    if (all.begin < hole.begin) rest.push_back({all.begin, hole.begin, false});
    all.begin = std::max(all.begin, hole.end);
  }
  if (all.begin < all.end) rest.push_back(all);
  return rest;
}

}  // namespace

ChatTemplate::ChatTemplate(TemplateSpec spec, SpecialTokens tokens, EndOfTurn end_of_turn)
    : renderer_(std::make_shared<SpecRenderer>(std::move(spec), tokens, TextEnding{}, end_of_turn)),
      tokens_(std::move(tokens)) {}

ChatTemplate ChatTemplate::select(const std::string& name, const std::filesystem::path& model_directory,
                                  const Tokenizer& tokenizer, EndOfTurn end_of_turn) {
  ChatTemplate chosen;
  chosen.tokens_ = read_special_tokens(model_directory, tokenizer);
  chosen.ending_.tokens = end_tokens(chosen.tokens_, tokenizer);
  chosen.ending_.bos = chosen.tokens_.bos.value_or("");
  chosen.ending_.pad = chosen.tokens_.pad.value_or("");
  if (chosen.tokens_.eos && !is_one_token(*chosen.tokens_.eos, tokenizer)) {
    chosen.ending_.eos_problem = fmt::format(
        "the tokenizer of the model in {} has no token {}, with which texts are to end, as the eos_token of "
        "its tokenizer_config.json says; correct that name, or add the token to tokenizer.json",
        model_directory.string(), *chosen.tokens_.eos);
  }
  if (name == "auto") {
    chosen.choose_own(model_directory, tokenizer, end_of_turn);
  } else {
    std::vector<TemplateSpec> known = builtin_templates(chosen.tokens_);
    const auto spec =
        std::find_if(known.begin(), known.end(), [&](const auto& one) { return one.name == name; });
    if (spec == known.end()) {
      fail(ExitCode::usage, "--template takes auto or one of {}, not '{}'",
           fmt::join(builtin_template_names(), ", "), name);
    }
    chosen.choose_built_in(std::move(*spec), model_directory, tokenizer, end_of_turn);
  }
  if (chosen.uses_end_of_turn() && end_of_turn == EndOfTurn::eos && !chosen.eos_id(tokenizer)) {
    fail(ExitCode::bad_data,
         "--eot eos needs an end-of-sequence token, and the tokenizer of the model in {} has none",
         model_directory.string());
  }
  if (chosen.spec()) check_special_tokens(*chosen.spec(), model_directory, tokenizer);
  return chosen;
}

void ChatTemplate::choose_own(const std::filesystem::path& model_directory, const Tokenizer& tokenizer,
                              EndOfTurn end_of_turn) {
  std::string problem = "is missing";
  if (const std::optional<std::string> text = read_chat_template(model_directory)) {
    if (std::optional<TemplateSpec> spec = recognize_template(*text, tokens_))
      return choose_built_in(std::move(*spec), model_directory, tokenizer, end_of_turn);
    try {
      renderer_ = std::make_shared<OwnTemplate>(*text, tokens_, ending_.tokens, tokenizer, end_of_turn);
      return;
    } catch (const jinja::TemplateError& error) {
      problem = fmt::format("is none that is built in and cannot be used as it is ({})", error.what());
    }
  }
  missing_ = fmt::format("the chat template of the model in {} {}; name the one to use with --template ({})",
                         model_directory.string(), problem, fmt::join(builtin_template_names(), ", "));
}

void ChatTemplate::choose_built_in(TemplateSpec spec, const std::filesystem::path& model_directory,
                                   const Tokenizer& tokenizer, EndOfTurn end_of_turn) {
  if (!spec.end_token.empty() && !tokenizer.token_to_id(spec.end_token)) {
    fail(ExitCode::bad_data,
         "the tokenizer of the model in {} has no token {}, with which the template {} ends turns; name "
         "another with --template ({})",
         model_directory.string(), spec.end_token, spec.name, fmt::join(builtin_template_names(), ", "));
  }
  renderer_ = std::make_shared<SpecRenderer>(std::move(spec), tokens_, ending_, end_of_turn);
}

const std::string& ChatTemplate::name() const {
  static const std::string kNone = "none";
  return renderer_ ? renderer_->name() : kNone;
}

const ChatRenderer& ChatTemplate::renderer() const {
  if (!renderer_) throw Error(ExitCode::bad_data, missing_);
  return *renderer_;
}

RenderedChat ChatTemplate::render_text(const Conversation& conversation) const {
  RenderedChat chat;
  chat.text = ending_.with_one_of_each(conversation.messages.front().content);
  chat.template_end = chat.text.size();
  if (!ending_.ends_already(chat.text)) {
    ending_.require_eos();
    chat.text += tokens_.eos.value_or("");
  }
  if (conversation.messages.front().trained)
    chat.spans.push_back({0, static_cast<std::uint32_t>(chat.text.size()), false});
  chat.running_text = true;
  return chat;
}

RenderedChat ChatTemplate::render(const Conversation& conversation, LossOn loss_on) const {
  if (conversation.form == Conversation::Form::text) return render_text(conversation);
  RenderedChat chat = renderer().render(conversation);
  if (loss_on == LossOn::assistant) {
    for (const Message& message : conversation.messages) {
      if (!message.wants_training.empty()) throw SampleError(message.wants_training);
    }
    return chat;
  }
  std::erase_if(chat.spans, [](const LossSpan& span) { return !span.as_eos; });
  const std::vector<LossSpan> all =
      subtract({0, static_cast<std::uint32_t>(chat.text.size()), false}, chat.untrained);
  chat.spans.insert(chat.spans.begin(), all.begin(), all.end());
  return chat;
}

std::string ChatTemplate::render_prompt(const Conversation& conversation) const {
  return renderer().render_prompt(conversation);
}

std::vector<std::int32_t> ChatTemplate::encode_prompt(const std::string& user_turn,
                                                      const Tokenizer& tokenizer) const {
  const bool running_text = !renderer_ || renderer_->is_running_text();
  std::vector<std::int32_t> ids = running_text ? leading_special_ids(tokenizer) : std::vector<std::int32_t>();
  const Conversation turn{Conversation::Form::chat, {{Role::user, user_turn}}};
  try {
    const std::vector<std::int32_t> encoded = tokenizer.encode(renderer_ ? render_prompt(turn) : user_turn);
    ids.insert(ids.end(), encoded.begin(), encoded.end());
  } catch (const SampleError& error) {
    fail(ExitCode::bad_data, "the prompt \"{}\": {}", user_turn, error.what());
  }
  return ids;
}

std::vector<std::int32_t> ChatTemplate::stop_ids(const Tokenizer& tokenizer) const {
  std::vector<std::int32_t> ids = tokens_.stop_ids;
  std::vector<std::string> names;
  if (renderer_) {
    names = renderer_->stop_tokens();
    if (!renderer_->end_token().empty()) names.push_back(renderer_->end_token());
  }
  for (const std::string& name : names) {
    const auto id = tokenizer.token_to_id(name);
    if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) ids.push_back(*id);
  }
  return ids;
}

std::optional<std::string> ChatTemplate::end_token() const {
  return renderer_ && !renderer_->end_token().empty() ? std::optional(renderer_->end_token()) : tokens_.eos;
}

std::optional<std::int32_t> ChatTemplate::eos_id(const Tokenizer& tokenizer) const {
  return tokenizer.token_to_id(tokens_.eos.value_or(std::string(kDefaultEos)));
}

std::vector<std::int32_t> leading_special_ids(const Tokenizer& tokenizer) {
  const std::vector<std::int32_t> bare = tokenizer.encode("a");
  const std::vector<std::int32_t> framed = tokenizer.encode_with_special_tokens("a");
  const auto begin = std::search(framed.begin(), framed.end(), bare.begin(), bare.end());
  return {framed.begin(), begin == framed.end() ? framed.begin() : begin};
}

}  // namespace autoglm
