// How a model's own chat template opens and ends answers.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/data/template_program.h"
#include "trainer/data/tokenizer/tokenizer.h"

namespace autoglm {

struct TemplateTraits {
  std::vector<std::string> end_tokens;  // each one token: what may end an answer
  std::string end_token;                // the one that does
  bool next_turn_ends = false;          // it is the next turn that writes it
  bool marks_answers = false;           // with {% generation %}
  std::string prompt_end;               // what follows the question in a prompt
  std::string opening;                  // of that, what add_generation_prompt adds
  bool opens_otherwise = false;         // an answer in a chat does not begin with it
  std::string reasoning_field;  // under which name it finds reasoning; empty when it has no place for it
};

// The longest of the tokens with which the text begins; empty when it begins with none.
std::string_view token_in_front(std::string_view text, const std::vector<std::string>& tokens);

// Where the white space that begins at `at` ends.
std::size_t skip_white_space(std::string_view text, std::size_t at);

// Runs the template on chats of a question and an answer. `end_tokens` are known to end answers in some template, the
// model's eos among them; one that looks like a mark and follows the answer is added. Throws jinja::TemplateError,
// which says why, for a template that fails on them or that never ends an answer.
TemplateTraits probe_template(const TemplateProgram& program, std::vector<std::string> end_tokens,
                              const Tokenizer& tokenizer);

}  // namespace autoglm
