// Built-in chat templates as data: what stands before, in and after a turn.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/data/conversation.h"
#include "trainer/data/special_tokens.h"

namespace autoglm {

// The text around one turn's content, in order: before, lead, content, end, after. When the model answers, it
// writes lead, content and end itself; so these are what is trained in an assistant turn.
struct TurnMarkup {
  std::string before;
  std::string lead;
  std::string end;
  std::string after;
};

// What stands around the reasoning that comes before an answer's content.
struct ReasoningMarkup {
  std::string before;
  std::string after;
};

struct TemplateSpec {
  std::string name;
  std::string start;  // once, before the first turn
  TurnMarkup system;
  TurnMarkup user;
  TurnMarkup assistant;
  // A system turn that the template writes when the chat has none; an empty one is written too.
  std::optional<std::string> default_system;
  bool system_in_user =
      false;  // the system turn is no turn of its own, but the beginning of the first user's
  bool strips_content = false;  // white space around contents is removed
  bool skips_empty = false;     // turns without content are left out
  bool alternates = false;      // user and assistant must take turns, beginning with user
  bool next_turn_ends = false;  // no end token of its own: the token that opens the next turn ends this one
  bool joins_with_newline = false;
  std::string end_token;  // ends the assistant's answer; empty where it is the model's end of sequence
  std::vector<std::string> stop_tokens;      // further tokens at which an answer ends
  std::vector<std::string> special_tokens;   // what it writes that must be one token each
  std::optional<ReasoningMarkup> reasoning;  // absent: it has no place for reasoning

  const TurnMarkup& turn(Role role) const {
    return role == Role::system ? system : role == Role::user ? user : assistant;
  }
};

// The templates that --template can name, with the model's own bos and eos where a template writes them.
//   chatml   <|im_start|>role, <|im_end|>; no system turn by default
//   smollm2  chatml with SmolLM2's default system turn
//   qwen     chatml with Qwen2.5's default system turn
//   glm4     GLM-4-0414: [gMASK]<sop>, <|role|>
//   llama2   [INST] ... [/INST], <<SYS>>
//   llama3   <|start_header_id|>role<|end_header_id|>, <|eot_id|>
//   llama3.1 llama3 with the system turn that Llama 3.1, 3.2 and 3.3 always write. Its date is the one
//   written in
//            the template, 26 Jul 2024, also for 3.2, which would write the day on which it runs.
//   zephyr   <|role|> and eos, as TinyLlama's chat models
//   plain    no markup: contents joined with newlines, eos after each answer
std::vector<TemplateSpec> builtin_templates(const SpecialTokens& tokens);

// Forms of the built-in templates that only --template auto picks, because a model's own template asks for
// them: glm4 as glm-4-9b-chat has it, without empty turns, and chatml with the default system turn of Qwen2.
std::vector<TemplateSpec> template_variants(const SpecialTokens& tokens);

// "chatml", "smollm2", ...
std::vector<std::string> builtin_template_names();

}  // namespace autoglm
