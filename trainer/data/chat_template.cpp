#include "trainer/data/chat_template.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "trainer/data/jinja/unicode_space.h"
#include "trainer/data/template_recognition.h"

namespace autoglm {
namespace {

std::uint32_t position(const RenderedChat& chat) {
  return static_cast<std::uint32_t>(chat.text.size());
}

constexpr std::string_view kDefaultEos = "<|endoftext|>";

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
         "--template "
         "({})",
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
    : spec_(std::move(spec)), tokens_(std::move(tokens)), end_of_turn_(end_of_turn) {}

ChatTemplate ChatTemplate::select(const std::string& name, const std::filesystem::path& model_directory,
                                  const Tokenizer& tokenizer, EndOfTurn end_of_turn) {
  ChatTemplate chosen;
  chosen.tokens_ = read_special_tokens(model_directory, tokenizer);
  chosen.end_of_turn_ = end_of_turn;
  chosen.end_texts_ = end_tokens(chosen.tokens_, tokenizer);
  if (chosen.tokens_.eos && !is_one_token(*chosen.tokens_.eos, tokenizer)) {
    chosen.eos_problem_ = fmt::format(
        "the tokenizer of the model in {} has no token {}, with which texts are to end, as the eos_token of "
        "its "
        "tokenizer_config.json says; correct that name, or add the token to tokenizer.json",
        model_directory.string(), *chosen.tokens_.eos);
  }
  if (name == "auto") {
    const std::optional<std::string> text = read_chat_template(model_directory);
    std::optional<TemplateSpec> spec = text ? recognize_template(*text, chosen.tokens_) : std::nullopt;
    if (!spec) {
      chosen.spec_.name = "none";
      chosen.missing_ =
          fmt::format("the chat template of the model in {} {}; name the one to use with --template ({})",
                      model_directory.string(), text ? "is none that is built in" : "is missing",
                      fmt::join(builtin_template_names(), ", "));
      return chosen;
    }
    chosen.spec_ = std::move(*spec);
  } else {
    std::vector<TemplateSpec> known = builtin_templates(chosen.tokens_);
    const auto spec =
        std::find_if(known.begin(), known.end(), [&](const auto& one) { return one.name == name; });
    if (spec == known.end()) {
      fail(ExitCode::usage, "--template takes auto or one of {}, not '{}'",
           fmt::join(builtin_template_names(), ", "), name);
    }
    chosen.spec_ = std::move(*spec);
  }
  if (!chosen.spec_.end_token.empty() && !tokenizer.token_to_id(chosen.spec_.end_token)) {
    fail(ExitCode::bad_data,
         "the tokenizer of the model in {} has no token {}, with which the template {} ends turns; name "
         "another with --template ({})",
         model_directory.string(), chosen.spec_.end_token, chosen.spec_.name,
         fmt::join(builtin_template_names(), ", "));
  }
  if (chosen.spec_.next_turn_ends && end_of_turn == EndOfTurn::eos && !chosen.eos_id(tokenizer)) {
    fail(ExitCode::bad_data,
         "--eot eos needs an end-of-sequence token, and the tokenizer of the model in {} has none",
         model_directory.string());
  }
  check_special_tokens(chosen.spec_, model_directory, tokenizer);
  return chosen;
}

void ChatTemplate::check_turns(const Conversation& conversation) const {
  if (!spec_.alternates) return;
  Role expected = Role::user;
  for (std::size_t i = 0; i < conversation.messages.size(); ++i) {
    const Role role = conversation.messages[i].role;
    if (role == Role::system) continue;
    if (role != expected) {
      throw SampleError(
          fmt::format("turn {} is of the {} where the template {} needs the {}: the two take turns, the "
                      "user first",
                      i + 1, to_string(role), spec_.name, to_string(expected)));
    }
    expected = role == Role::user ? Role::assistant : Role::user;
  }
  if (conversation.messages.back().role == Role::system) {
    throw SampleError(
        fmt::format("the template {} has no place for a system turn without a user turn", spec_.name));
  }
}

void ChatTemplate::check_fields_have_a_place(const Conversation& conversation, LossOn loss_on) const {
  for (const Message& message : conversation.messages) {
    if (!message.reasoning_place.empty() && !spec_.reasoning) {
      throw SampleError(fmt::format(
          "the template {} has no place for {}; put it into the content as the model is to write it (such as "
          "<think>...</think>), or take the field away",
          spec_.name, message.reasoning_place));
    }
    if (!message.wants_training.empty() && loss_on == LossOn::assistant)
      throw SampleError(message.wants_training);
  }
  if (spec_.joins_with_newline && conversation.form == Conversation::Form::completion &&
      conversation.messages.front().role == Role::system) {
    throw SampleError(
        fmt::format("the template {} joins a prompt and its completion as they are and has no place for a "
                    "system turn; put it "
                    "into \"prompt\"",
                    spec_.name));
  }
}

bool ChatTemplate::ends_already(std::string_view text) const {
  while (!text.empty() && std::string_view(" \t\r\n").find(text.back()) != std::string_view::npos)
    text.remove_suffix(1);
  return std::any_of(end_texts_.begin(), end_texts_.end(),
                     [&](const std::string& end) { return text.ends_with(end); });
}

void ChatTemplate::require_eos() const {
  if (!eos_problem_.empty()) throw Error(ExitCode::bad_data, eos_problem_);
}

void ChatTemplate::append_turn(const Message& message, std::string_view content, RenderedChat& chat) const {
  const TurnMarkup& markup = spec_.turn(message.role);
  chat.text += markup.before;
  const std::uint32_t begin = position(chat);
  chat.text += markup.lead;
  if (!message.reasoning.empty() && spec_.reasoning)
    chat.text += spec_.reasoning->before + message.reasoning + spec_.reasoning->after;
  chat.text += spec_.strips_content ? strip_space(content) : content;
  if (spec_.joins_with_newline && message.role == Role::assistant) {
    if (!ends_already(content)) {
      require_eos();
      chat.text += markup.end;
    }
  } else {
    chat.text += markup.end;
  }
  const std::uint32_t end = position(chat);
  chat.text += markup.after;
  if (!message.trained) {
    // Where the next turn's token ends an answer, that belongs to it.
    chat.untrained.push_back({begin, end + (spec_.next_turn_ends && message.role == Role::assistant), false});
    return;
  }
  if (message.role != Role::assistant || message.context) return;
  chat.spans.push_back({begin, end, false});
  // The token that opens whatever comes next begins at `end`, so one byte is enough to name it.
  if (spec_.next_turn_ends) chat.spans.push_back({end, end + 1, end_of_turn_ == EndOfTurn::eos});
}

void ChatTemplate::append_turns(const Conversation& conversation, RenderedChat& chat) const {
  chat.text += spec_.start;
  std::string system;
  if (spec_.default_system && conversation.messages.front().role != Role::system) {
    append_turn({Role::system, {}}, *spec_.default_system, chat);
  }
  bool first = true;
  for (const Message& message : conversation.messages) {
    if (spec_.skips_empty && message.content.empty()) continue;
    if (spec_.joins_with_newline && !first && conversation.form == Conversation::Form::chat)
      chat.text += '\n';
    first = false;
    if (message.role == Role::system && spec_.system_in_user) {
      system = spec_.system.before + message.content + spec_.system.end;
    } else {
      append_turn(message, system + message.content, chat);
      system.clear();
    }
  }
}

RenderedChat ChatTemplate::render_text(const Conversation& conversation) const {
  RenderedChat chat;
  chat.text = conversation.messages.front().content;
  chat.template_end = chat.text.size();
  if (!ends_already(chat.text)) {
    require_eos();
    chat.text += tokens_.eos.value_or("");
  }
  if (conversation.messages.front().trained) chat.spans.push_back({0, position(chat), false});
  chat.running_text = true;
  return chat;
}

RenderedChat ChatTemplate::render(const Conversation& conversation, LossOn loss_on) const {
  if (conversation.form == Conversation::Form::text) return render_text(conversation);
  if (!missing_.empty()) throw Error(ExitCode::bad_data, missing_);
  check_turns(conversation);
  check_fields_have_a_place(conversation, loss_on);
  RenderedChat chat;
  chat.running_text = spec_.joins_with_newline;
  append_turns(conversation, chat);
  chat.template_end = chat.text.size();
  const bool answer_is_open =
      spec_.next_turn_ends && !chat.spans.empty() && chat.spans.back().begin == chat.text.size();
  if (answer_is_open) {
    chat.text +=
        end_of_turn_ == EndOfTurn::eos ? tokens_.eos.value_or(std::string(kDefaultEos)) : spec_.end_token;
  }
  if (loss_on == LossOn::all) {
    std::erase_if(chat.spans, [](const LossSpan& span) { return !span.as_eos; });
    const std::vector<LossSpan> all = subtract({0, position(chat), false}, chat.untrained);
    chat.spans.insert(chat.spans.begin(), all.begin(), all.end());
  }
  return chat;
}

std::string ChatTemplate::render_prompt(const Conversation& conversation) const {
  if (!missing_.empty()) throw Error(ExitCode::bad_data, missing_);
  check_turns(conversation);
  RenderedChat chat;
  append_turns(conversation, chat);
  if (spec_.joins_with_newline && conversation.form == Conversation::Form::chat) chat.text += '\n';
  return chat.text + spec_.assistant.before;
}

std::vector<std::int32_t> ChatTemplate::encode_prompt(const std::string& user_turn,
                                                      const Tokenizer& tokenizer) const {
  const bool running_text = !missing_.empty() || spec_.joins_with_newline;
  std::vector<std::int32_t> ids = running_text ? leading_special_ids(tokenizer) : std::vector<std::int32_t>();
  const Conversation turn{Conversation::Form::chat, {{Role::user, user_turn}}};
  const std::vector<std::int32_t> encoded =
      tokenizer.encode(missing_.empty() ? render_prompt(turn) : user_turn);
  ids.insert(ids.end(), encoded.begin(), encoded.end());
  return ids;
}

std::vector<std::int32_t> ChatTemplate::stop_ids(const Tokenizer& tokenizer) const {
  std::vector<std::int32_t> ids = tokens_.stop_ids;
  std::vector<std::string> names = spec_.stop_tokens;
  if (!spec_.end_token.empty()) names.push_back(spec_.end_token);
  for (const std::string& name : names) {
    const auto id = tokenizer.token_to_id(name);
    if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) ids.push_back(*id);
  }
  return ids;
}

std::optional<std::string> ChatTemplate::end_token() const {
  return spec_.end_token.empty() ? tokens_.eos : std::optional(spec_.end_token);
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
