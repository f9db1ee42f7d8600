#include "trainer/data/template_probe.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "trainer/data/text_places.h"

namespace autoglm {
namespace {

using jinja::TemplateError;

// A token that looks like a mark, such as <end_of_turn> or [EOS], with which the text begins; empty when none does.
std::string mark_in_front(std::string_view text, const Tokenizer& tokenizer) {
  if (text.empty() || (text.front() != '<' && text.front() != '[')) return "";
  const std::vector<std::int32_t> ids = tokenizer.encode(text);
  if (ids.empty()) return "";
  std::string token = tokenizer.decode({ids.data(), 1}, false);
  const bool is_mark = token.size() > 2 && token.back() == (token.front() == '<' ? '>' : ']');
  return is_mark && text.starts_with(token) ? token : "";
}

std::string_view behind(std::string_view text, const std::string& mark, const char* what) {
  const std::size_t at = text.find(mark);
  if (at == std::string_view::npos) throw TemplateError(fmt::format("it leaves {} out", what));
  return text.substr(at + mark.size());
}

class Prober {
 public:
  Prober(const TemplateProgram& program, const Tokenizer& tokenizer)
      : program_(program), tokenizer_(tokenizer), marks_({}, 4), question_{{Role::user, marks_[0]}} {}

  TemplateTraits run(std::vector<std::string> end_tokens) {
    traits_.end_tokens = std::move(end_tokens);
    const jinja::Rendering chat = render_chat();
    traits_.marks_answers = !chat.generated.empty();
    look_at_prompt(behind(chat.text, marks_[0], "the user's turn"));
    look_at_ending(behind(chat.text, marks_[1], "the answer"));
    look_for_reasoning();
    return std::move(traits_);
  }

 private:
  std::vector<TemplateTurn> answered(TemplateTurn answer) const {
    std::vector<TemplateTurn> turns = question_;
    turns.push_back(answer);
    return turns;
  }

  // A question and its answer; with a system turn before them if the template wants one.
  jinja::Rendering render_chat() {
    const TemplateTurn answer{Role::assistant, marks_[1]};
    try {
      return program_.render(answered(answer), false);
    } catch (const TemplateError& error) {
      question_.insert(question_.begin(), TemplateTurn{Role::system, marks_[3]});
      try {
        return program_.render(answered(answer), false);
      } catch (const TemplateError&) {
        throw TemplateError(fmt::format("on a question and its answer it fails: {}", error.what()));
      }
    }
  }

  void look_at_prompt(std::string_view after_question) {
    std::string prompt, closed;
    try {
      prompt = program_.render(question_, true).text;
      closed = program_.render(question_, false).text;
    } catch (const TemplateError& error) {
      throw TemplateError(fmt::format("on a question without an answer it fails: {}", error.what()));
    }
    traits_.prompt_end = behind(prompt, marks_[0], "the question of a prompt");
    if (prompt.starts_with(closed)) traits_.opening = prompt.substr(closed.size());
    traits_.opens_otherwise = !after_question.starts_with(traits_.prompt_end);
  }

  void look_at_ending(std::string_view after_answer) {
    const std::string_view rest = after_answer.substr(skip_white_space(after_answer, 0));
    traits_.end_token = token_in_front(rest, traits_.end_tokens);
    if (!traits_.end_token.empty()) return;
    traits_.end_token = mark_in_front(rest, tokenizer_);
    if (!traits_.end_token.empty()) return traits_.end_tokens.push_back(traits_.end_token);
    if (traits_.marks_answers) return;
    if (rest.empty()) look_at_next_turn();
    if (!traits_.end_token.empty()) return;
    throw TemplateError(
        fmt::format("nothing ends its answers: behind one it writes {}, which is neither the model's "
                    "eos_token nor another token that "
                    "ends a turn",
                    after_answer.empty() ? "nothing" : nlohmann::json(after_answer).dump()));
  }

  void look_at_next_turn() {
    std::vector<TemplateTurn> turns = answered({Role::assistant, marks_[1]});
    turns.push_back({Role::user, marks_[2]});
    try {
      const std::string text = program_.render(turns, false).text;
      const std::string_view rest = behind(text, marks_[1], "the answer");
      traits_.end_token = token_in_front(rest.substr(skip_white_space(rest, 0)), traits_.end_tokens);
      traits_.next_turn_ends = !traits_.end_token.empty();
    } catch (const TemplateError&) {
      // Then nothing follows an answer.
    }
  }

  void look_for_reasoning() {
    for (const char* field : {"reasoning_content", "reasoning", "thinking"}) {
      try {
        const auto turns = answered({Role::assistant, marks_[1], field, marks_[2]});
        if (program_.render(turns, false).text.find(marks_[2]) == std::string::npos) continue;
        traits_.reasoning_field = field;
        return;
      } catch (const TemplateError&) {
        // It refuses the field, or cannot do with it: there is no place.
      }
    }
  }

  const TemplateProgram& program_;
  const Tokenizer& tokenizer_;
  Marks marks_;
  std::vector<TemplateTurn> question_;
  TemplateTraits traits_;
};

}  // namespace

std::string_view token_in_front(std::string_view text, const std::vector<std::string>& tokens) {
  std::string_view longest;
  for (const std::string& token : tokens) {
    if (token.size() > longest.size() && text.starts_with(token)) longest = token;
  }
  return longest;
}

std::size_t skip_white_space(std::string_view text, std::size_t at) {
  return std::min(text.find_first_not_of(" \t\r\n", at), text.size());
}

TemplateTraits probe_template(const TemplateProgram& program, std::vector<std::string> end_tokens,
                              const Tokenizer& tokenizer) {
  return Prober(program, tokenizer).run(std::move(end_tokens));
}

}  // namespace autoglm
