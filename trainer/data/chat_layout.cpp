#include "trainer/data/chat_layout.h"

#include <fmt/core.h>

#include <algorithm>

#include "trainer/data/jinja/unicode_space.h"

namespace autoglm {
namespace {

constexpr std::string_view kThoughtEnd = "</think>";

}  // namespace

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
  if (!find_all()) find_all_after_thoughts();
  is_searched_.assign(texts_.size(), is_exact_);
  check_nothing_is_lost();
}

// With marks for the texts first to end - 1.
std::string ChatLayout::render_marked(std::size_t first, std::size_t end) const {
  std::vector<TemplateTurn> marked = turns_;
  std::vector<std::string> contents(turns_.size());
  for (std::size_t index = first; index < end; ++index) {
    const std::size_t i = index % turns_.size();
    if (index >= turns_.size()) {
      if (!turns_[i].reasoning.empty()) marked[i].reasoning = (*marks_)[index];
      continue;
    }
    const std::size_t unmarked = turns_[i].content.size() - texts_[i].size();
    contents[i] = std::string(turns_[i].content.substr(0, unmarked)) + (*marks_)[i];
    marked[i].content = contents[i];
  }
  return program_.render(marked, false).text;
}

// Marks everything at once. Whether that tells all places.
bool ChatLayout::find_all() {
  try {
    const std::string marked = render_marked(0, texts_.size());
    if (auto found = find_places(rendering_.text, marked, texts_, *marks_)) {
      places_ = std::move(*found);
      return is_exact_ = true;
    }
    for (std::size_t i = 0; i < texts_.size(); ++i)
      is_written_[i] = marked.find((*marks_)[i]) != std::string::npos;
  } catch (const jinja::TemplateError&) {
    // It does not take marks for some text. Each by itself may do.
  }
  return false;
}

// What most templates look for that look into texts is the end of what an answer thinks: marks what follows only.
void ChatLayout::find_all_after_thoughts() {
  const std::vector<std::string_view> whole = texts_;
  bool thinks = false;
  for (std::size_t i = 0; i < turns_.size(); ++i) {
    const std::size_t at = texts_[i].rfind(kThoughtEnd);
    if (turns_[i].role != Role::assistant || at == std::string_view::npos) continue;
    texts_[i].remove_prefix(at + kThoughtEnd.size());
    thinks = true;
  }
  if (thinks && !find_all()) texts_ = whole;
}

const std::optional<TextPlace>& ChatLayout::place(std::size_t index) {
  if (is_searched_[index]) return places_[index];
  is_searched_[index] = true;
  try {
    const std::string marked = render_marked(index, index + 1);
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
    const std::size_t turn = i % turns_.size();
    const std::string_view text = i < turns_.size() ? turns_[turn].content : turns_[turn].reasoning;
    if (strip_space(text).empty() || (!is_exact_ && is_written_[i]) || place(i)) continue;
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
