#include "trainer/data/own_template.h"

#include <fmt/core.h>

#include <algorithm>

namespace autoglm {
namespace {

LossSpan span_of(std::size_t begin, std::size_t end, bool as_eos = false) {
  return {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end), as_eos};
}

std::string without_white_space(std::string_view text) {
  std::string rest(text);
  std::erase_if(rest, [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; });
  return rest;
}

bool is_answer(const Message& message) {
  return message.role == Role::assistant;
}

bool is_trained(const Message& message) {
  return is_answer(message) && message.trained && !message.context;
}

}  // namespace

OwnTemplate::OwnTemplate(std::string_view text, const SpecialTokens& tokens,
                         std::vector<std::string> end_tokens, const Tokenizer& tokenizer,
                         EndOfTurn end_of_turn)
    : program_(text, tokens, TemplateProgram::Date::today),
      traits_(probe_template(program_, std::move(end_tokens), tokenizer)),
      last_answer_end_(end_of_turn == EndOfTurn::eos ? tokens.eos.value_or(std::string(kDefaultEos))
                                                     : traits_.end_token),
      end_is_eos_(end_of_turn == EndOfTurn::eos) {}

const std::string& OwnTemplate::name() const {
  static const std::string kName = "own";
  return kName;
}

void OwnTemplate::check_reasoning(const Conversation& conversation) const {
  for (const Message& message : conversation.messages) {
    if (message.reasoning_place.empty() || !traits_.reasoning_field.empty()) continue;
    throw SampleError(fmt::format(
        "the model's own chat template has no place for {}; put it into the content as the model is to "
        "write it (such as <think>...</think>), or take the field away",
        message.reasoning_place));
  }
}

// Where the prompt ends that asks for this answer, of which `first` is what is written first.
std::optional<std::size_t> OwnTemplate::opening_end(ChatLayout& layout, std::size_t message,
                                                    const TextPlace& first, std::size_t content_end) const {
  const std::string_view text = layout.text();
  std::size_t from = first.markup_begin;
  if (layout.is_exact() && message > 0 && text.substr(from).starts_with(traits_.prompt_end) &&
      from + traits_.prompt_end.size() <= content_end)
    return from + traits_.prompt_end.size();
  if (!layout.is_exact() || !traits_.opens_otherwise) {
    const std::optional<std::string> prompt = layout.prompt_before(message);
    if (prompt && text.starts_with(*prompt) && prompt->size() >= from && prompt->size() <= content_end)
      return prompt->size();
  }
  if (traits_.opening.empty() || first.begin == 0) return std::nullopt;
  if (!layout.is_exact() && message > 0) {
    if (const std::optional<TextPlace>& before = layout.content(message - 1)) from = before->end;
  }
  // The markup of a message that thinks first holds its thoughts, which may spell the opening too.
  const bool thinks = layout.is_exact() && !layout.is_whole(message);
  const std::size_t at =
      thinks ? text.find(traits_.opening, from) : text.rfind(traits_.opening, first.begin - 1);
  if (at == std::string_view::npos || at < from || at >= first.begin ||
      at + traits_.opening.size() > content_end)
    return std::nullopt;
  return at + traits_.opening.size();
}

// Nothing for an answer that the template does not write, an empty one.
std::optional<OwnTemplate::Answer> OwnTemplate::find_answer(ChatLayout& layout, std::size_t message) const {
  const std::optional<TextPlace> content = layout.content(message);
  if (!content) return std::nullopt;
  TextPlace first = *content;
  if (!layout.conversation().messages[message].reasoning.empty()) {
    const std::optional<TextPlace> reasoning = layout.reasoning(message);
    if (reasoning && reasoning->begin < first.begin) first = *reasoning;
  }
  const std::optional<std::size_t> begin = opening_end(layout, message, first, content->end);
  Answer answer;
  answer.begin = begin.value_or(first.begin);
  answer.opens_otherwise = !begin && message > 0;
  answer.content_end = content->end;
  const std::string_view text = std::string_view(layout.text()).substr(0, content->markup_end);
  answer.token_begin = skip_white_space(text, content->end);
  answer.token_end =
      answer.token_begin + token_in_front(text.substr(answer.token_begin), traits_.end_tokens).size();
  return answer;
}

void OwnTemplate::add_answer(const ChatLayout& layout, std::size_t message, const Answer& answer,
                             RenderedChat& chat) const {
  const std::string_view text = layout.text();
  const std::vector<Message>& messages = layout.conversation().messages;
  chat.opens_otherwise |= answer.opens_otherwise;
  if (!layout.is_whole(message)) {
    const std::string written =
        without_white_space(text.substr(answer.begin, answer.content_end - answer.begin));
    chat.changes_answer |= written.find(without_white_space(messages[message].content)) == std::string::npos;
  }
  const bool has_token = answer.token_end > answer.token_begin;
  if (has_token && !traits_.next_turn_ends) {
    chat.spans.push_back(span_of(answer.begin, answer.token_end));
    return;
  }
  if (traits_.next_turn_ends && (has_token || answer.token_begin == text.size())) {
    // The next turn's token begins here, so one byte is enough to name it. It may have to be written yet.
    chat.spans.push_back(span_of(answer.begin, answer.token_begin));
    chat.spans.push_back(span_of(answer.token_begin, answer.token_begin + 1, end_is_eos_));
    if (!has_token) chat.text += last_answer_end_;
    return;
  }
  const bool is_last =
      std::none_of(messages.begin() + static_cast<std::ptrdiff_t>(message) + 1, messages.end(), is_answer);
  if (is_last)
    throw SampleError(
        fmt::format("the model's own chat template writes no token that ends an answer behind turn {}; "
                    "name another template with --template",
                    message + 1));
  chat.spans.push_back(span_of(answer.begin, answer.content_end));
}

// What {% generation %} blocks wrote, less those of answers that are not trained.
void OwnTemplate::add_marked_answers(ChatLayout& layout, RenderedChat& chat) const {
  for (const auto& [begin, end] : layout.rendering().generated) chat.spans.push_back(span_of(begin, end));
  const std::vector<Message>& messages = layout.conversation().messages;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::optional<TextPlace> place =
        !is_answer(messages[i]) || is_trained(messages[i]) ? std::nullopt : layout.content(i);
    if (!place) continue;
    std::erase_if(chat.spans,
                  [&](const LossSpan& span) { return span.begin <= place->end && span.end >= place->begin; });
  }
}

void OwnTemplate::add_untrained(ChatLayout& layout, std::size_t message, RenderedChat& chat) const {
  const std::optional<Answer> turn = find_answer(layout, message);
  if (!turn) return;
  const bool answers = is_answer(layout.conversation().messages[message]);
  const std::size_t begin = answers ? turn->begin : layout.content(message)->begin;
  const bool has_token = turn->token_end > turn->token_begin;
  std::size_t end = has_token ? turn->token_end : turn->content_end;
  // Of the next turn's token, that names the end of an answer only.
  if (has_token && traits_.next_turn_ends) end = answers ? turn->token_begin + 1 : turn->content_end;
  chat.untrained.push_back(span_of(begin, end));
}

RenderedChat OwnTemplate::render(const Conversation& conversation) const {
  check_reasoning(conversation);
  ChatLayout layout(program_, conversation, traits_.reasoning_field);
  RenderedChat chat;
  chat.text = layout.text();
  chat.template_end = chat.text.size();
  if (traits_.marks_answers) add_marked_answers(layout, chat);
  for (std::size_t i = 0; i < conversation.messages.size(); ++i) {
    const Message& message = conversation.messages[i];
    if (!message.trained) {
      add_untrained(layout, i, chat);
    } else if (is_trained(message) && !traits_.marks_answers) {
      if (const std::optional<Answer> answer = find_answer(layout, i)) {
        add_answer(layout, i, *answer, chat);
      } else {
        chat.changes_answer |= !without_white_space(message.content).empty();
      }
    }
  }
  return chat;
}

std::string OwnTemplate::render_prompt(const Conversation& conversation) const {
  check_reasoning(conversation);
  return render_chat(program_, turns_of(conversation, traits_.reasoning_field), true).text;
}

}  // namespace autoglm
