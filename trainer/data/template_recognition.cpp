#include "trainer/data/template_recognition.h"

#include <spdlog/spdlog.h>

#include "trainer/data/chat_layout.h"
#include "trainer/data/chat_template.h"
#include "trainer/data/template_program.h"

namespace autoglm {
namespace {

std::vector<Conversation> probes() {
  const auto chat = [](std::vector<Message> messages) {
    return Conversation{Conversation::Form::chat, std::move(messages)};
  };
  const Message system{Role::system, " Be brief.\n\n"};
  const Message user{Role::user, "\n\n Grüße, 世界 <b>&amp; \"quotes\" \\n {{ no }}\t\n"};
  const Message answer{Role::assistant, " <think>\nhm\n</think>\n\nHello [INST] \n"};
  const Message second{Role::user, "And then?"};
  const Message last{Role::assistant, "<think>so</think>Then nothing."};
  const Message nothing_asked{Role::user, ""};
  const Message nothing_said{Role::assistant, ""};
  const Message no_system{Role::system, ""};
  return {chat({second}),
          chat({user}),
          chat({second, last}),
          chat({user, answer, second}),
          chat({user, answer, second, last}),
          chat({system, user}),
          chat({system, user, answer}),
          chat({system, user, answer, second, last}),
          chat({nothing_asked, nothing_said, second, nothing_said}),
          chat({no_system, second, last})};
}

// The first of the candidates that renders every probe as the template `text` does.
std::optional<TemplateSpec> first_alike(const std::string& text, std::vector<TemplateSpec> candidates,
                                        const SpecialTokens& tokens) {
  try {
    const TemplateProgram program(text, tokens);
    for (const Conversation& chat : probes()) {
      for (const bool generation_prompt : {false, true}) {
        const std::string wanted = program.render(turns_of(chat, ""), generation_prompt).text;
        std::erase_if(candidates, [&](const TemplateSpec& spec) {
          const ChatTemplate candidate(spec, tokens);
          const RenderedChat rendered = candidate.render(chat, LossOn::assistant);
          // Templates ignore the wish for a generation prompt differently after an answer, where none is
          // needed.
          if (generation_prompt && chat.messages.back().role == Role::assistant) return false;
          return generation_prompt ? candidate.render_prompt(chat) != wanted
                                   : rendered.text.substr(0, rendered.template_end) != wanted;
        });
        if (candidates.empty()) return std::nullopt;
      }
    }
  } catch (const jinja::TemplateError& error) {
    spdlog::debug("the model's chat template cannot be evaluated: {}", error.what());
    return std::nullopt;
  }
  return std::move(candidates.front());
}

}  // namespace

std::optional<TemplateSpec> recognize_template(const std::string& text, const SpecialTokens& tokens) {
  std::vector<TemplateSpec> candidates = builtin_templates(tokens);
  for (TemplateSpec& variant : template_variants(tokens)) candidates.push_back(std::move(variant));
  return first_alike(text, std::move(candidates), tokens);
}

bool renders_as(const std::string& text, const TemplateSpec& spec, const SpecialTokens& tokens) {
  return first_alike(text, {spec}, tokens).has_value();
}

}  // namespace autoglm
