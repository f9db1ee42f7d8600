#include "trainer/data/chat_layout.h"

#include <fmt/core.h>

#include <algorithm>

#include "trainer/data/jinja/unicode_space.h"

namespace autoglm {

std::vector<TemplateTurn> turns_of(const Conversation& conversation, const std::string& reasoning_field) {
  std::vector<TemplateTurn> turns;
  for (const Message& message : conversation.messages) {
    TemplateTurn turn{message.role, message.content};
    if (!message.reasoning.empty()) {
      turn.reasoning_field = reasoning_field;
      turn.reasoning = message.reasoning;
    }
    turns.push_back(turn);
  }
  return turns;
}

jinja::Rendering render_chat(const TemplateProgram& program, std::span<const TemplateTurn> turns,
                             bool generation_prompt) {
  try {
    return program.render(turns, generation_prompt);
  } catch (const jinja::TemplateRefusal& refusal) {
    throw SampleError(fmt::format("the model's own chat template refuses it: {}", refusal.what()));
  } catch (const jinja::TemplateError& error) {
    throw SampleError(fmt::format("the model's own chat template fails on it: {}", error.what()));
  }
}

ChatLayout::ChatLayout(const TemplateProgram& program, const Conversation& conversation,
                       const std::string& reasoning_field)
    : program_(program),
      conversation_(conversation),
      turns_(turns_of(conversation, reasoning_field)),
      rendering_(render_chat(program, turns_, false)) {
  for (const TemplateTurn& turn : turns_) texts_.push_back(turn.content);
  for (const TemplateTurn& turn : turns_) texts_.push_back(turn.reasoning);
  std::vector<std::string_view> unmarked = texts_;
  unmarked.push_back(rendering_.text);
  marks_.emplace(unmarked, texts_.size());
  places_.resize(texts_.size());
  is_written_.resize(texts_.size());
  find_all();
  is_searched_.assign(texts_.size(), is_exact_);
  check_nothing_is_lost();
}

template <typename Predicate>
std::string ChatLayout::render_marked(Predicate is_marked) const {
  std::vector<TemplateTurn> marked = turns_;
  for (std::size_t i = 0; i < turns_.size(); ++i) {
    const std::size_t reasoning = i + turns_.size();
    if (is_marked(i)) marked[i].content = (*marks_)[i];
    if (!turns_[i].reasoning.empty() && is_marked(reasoning)) marked[i].reasoning = (*marks_)[reasoning];
  }
  return program_.render(marked, false).text;
}

void ChatLayout::find_all() {
  try {
    const std::string marked = render_marked([](std::size_t) { return true; });
    if (auto found = find_places(rendering_.text, marked, texts_, *marks_)) {
      places_ = std::move(*found);
      is_exact_ = true;
      return;
    }
    for (std::size_t i = 0; i < texts_.size(); ++i)
      is_written_[i] = marked.find((*marks_)[i]) != std::string::npos;
  } catch (const jinja::TemplateError&) {
    // It does not take marks for some text. Each by itself may do.
  }
}

const std::optional<TextPlace>& ChatLayout::place(std::size_t index) {
  if (is_searched_[index]) return places_[index];
  is_searched_[index] = true;
  try {
    const std::string marked = render_marked([&](std::size_t one) { return one == index; });
    places_[index] = find_difference(rendering_.text, marked, (*marks_)[index]);
  } catch (const jinja::TemplateError& error) {
    throw SampleError(
        fmt::format("the model's own chat template takes no other text for turn {} ({}), so that its place "
                    "cannot be told",
                    index % turns_.size() + 1, error.what()));
  }
  return places_[index];
}

void ChatLayout::check_nothing_is_lost() {
  for (std::size_t i = 0; i < texts_.size(); ++i) {
    if (strip_space(texts_[i]).empty() || (!is_exact_ && is_written_[i]) || place(i)) continue;
    const std::size_t turn = i % turns_.size();
    if (i >= turns_.size()) {
      throw SampleError(fmt::format(
          "the model's own chat template leaves out {}, as it does with earlier turns or with some; make "
          "that turn the last of "
          "its sample, put the text into the content as the model is to write it, or take the field away",
          conversation_.messages[turn].reasoning_place));
    }
    throw SampleError(
        fmt::format("the model's own chat template has no place for turn {}, which is of the {}; take it "
                    "out of the file, or name another template with --template",
                    turn + 1, to_string(turns_[turn].role)));
  }
}

std::optional<std::string> ChatLayout::prompt_before(std::size_t message) const {
  try {
    return program_.render(std::span(turns_).first(message), true).text;
  } catch (const jinja::TemplateError&) {
    return std::nullopt;
  }
}

}  // namespace autoglm
