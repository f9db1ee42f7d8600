#include "trainer/data/spec_renderer.h"

#include <fmt/core.h>

#include "trainer/data/jinja/unicode_space.h"

namespace autoglm {
namespace {

std::uint32_t position(const RenderedChat& chat) {
  return static_cast<std::uint32_t>(chat.text.size());
}

}  // namespace

SpecRenderer::SpecRenderer(TemplateSpec spec, const SpecialTokens& tokens, TextEnding ending,
                           EndOfTurn end_of_turn)
    : spec_(std::move(spec)),
      ending_(std::move(ending)),
      answer_end_(end_of_turn == EndOfTurn::eos ? tokens.eos.value_or(std::string(kDefaultEos))
                                                : spec_.end_token),
      end_of_turn_(end_of_turn) {}

void SpecRenderer::check_turns(const Conversation& conversation) const {
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

void SpecRenderer::check_fields_have_a_place(const Conversation& conversation) const {
  for (const Message& message : conversation.messages) {
    if (!message.reasoning_place.empty() && !spec_.reasoning) {
      throw SampleError(fmt::format(
          "the template {} has no place for {}; put it into the content as the model is to write it (such as "
          "<think>...</think>), or take the field away",
          spec_.name, message.reasoning_place));
    }
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

void SpecRenderer::append_turn(const Message& message, std::string_view content, RenderedChat& chat) const {
  const TurnMarkup& markup = spec_.turn(message.role);
  chat.text += markup.before;
  const std::uint32_t begin = position(chat);
  chat.text += markup.lead;
  if (!message.reasoning.empty() && spec_.reasoning)
    chat.text += spec_.reasoning->before + message.reasoning + spec_.reasoning->after;
  const bool ends_itself = spec_.joins_with_newline && message.role == Role::assistant;
  if (ends_itself) content = ending_.with_one_of_each(content);
  chat.text += spec_.strips_content ? strip_space(content) : content;
  if (ends_itself) {
    if (!ending_.ends_already(content)) {
      ending_.require_eos();
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

void SpecRenderer::append_turns(const Conversation& conversation, RenderedChat& chat) const {
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

RenderedChat SpecRenderer::render(const Conversation& conversation) const {
  check_turns(conversation);
  check_fields_have_a_place(conversation);
  RenderedChat chat;
  chat.running_text = spec_.joins_with_newline;
  append_turns(conversation, chat);
  chat.template_end = chat.text.size();
  const bool answer_is_open =
      spec_.next_turn_ends && !chat.spans.empty() && chat.spans.back().begin == chat.text.size();
  if (answer_is_open) chat.text += answer_end_;
  return chat;
}

std::string SpecRenderer::render_prompt(const Conversation& conversation) const {
  check_turns(conversation);
  RenderedChat chat;
  append_turns(conversation, chat);
  if (spec_.joins_with_newline && conversation.form == Conversation::Form::chat) chat.text += '\n';
  return chat.text + spec_.assistant.before;
}

}  // namespace autoglm
