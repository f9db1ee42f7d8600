#include "trainer/data/template_spec.h"

#include <fmt/core.h>

namespace autoglm {
namespace {

TemplateSpec chatml(std::string name, std::optional<std::string> default_system = std::nullopt) {
  const auto turn = [](std::string_view role) {
    return TurnMarkup{"<|im_start|>" + std::string(role) + "\n", "", "<|im_end|>", "\n"};
  };
  TemplateSpec spec;
  spec.name = std::move(name);
  spec.system = turn("system");
  spec.user = turn("user");
  spec.assistant = turn("assistant");
  spec.default_system = std::move(default_system);
  spec.end_token = "<|im_end|>";
  spec.special_tokens = {"<|im_start|>", spec.end_token};
  return spec;
}

TemplateSpec glm4() {
  TemplateSpec spec;
  spec.name = "glm4";
  spec.start = "[gMASK]<sop>";
  spec.system = {"<|system|>", "\n", "", ""};
  spec.user = {"<|user|>", "\n", "", ""};
  spec.assistant = {"<|assistant|>", "\n", "", ""};
  spec.next_turn_ends = true;
  spec.end_token = "<|user|>";
  spec.stop_tokens = {"<|endoftext|>", "<|observation|>"};
  spec.special_tokens = {"[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"};
  return spec;
}

TemplateSpec llama2(const SpecialTokens& tokens) {
  TemplateSpec spec;
  spec.name = "llama2";
  spec.system = {"<<SYS>>\n", "", "\n<</SYS>>\n\n", ""};
  spec.user = {tokens.bos.value_or("<s>") + "[INST] ", "", " [/INST]", ""};
  spec.end_token = tokens.eos.value_or("</s>");
  spec.assistant = {"", " ", fmt::format(" {}", spec.end_token), ""};
  spec.special_tokens = {tokens.bos.value_or("<s>"), spec.end_token};
  spec.system_in_user = true;
  spec.strips_content = true;
  spec.alternates = true;
  return spec;
}

TemplateSpec llama3(const SpecialTokens& tokens) {
  const auto turn = [](std::string_view role) {
    return TurnMarkup{"<|start_header_id|>" + std::string(role) + "<|end_header_id|>\n\n", "", "<|eot_id|>",
                      ""};
  };
  TemplateSpec spec;
  spec.name = "llama3";
  spec.start = tokens.bos.value_or("<|begin_of_text|>");
  spec.system = turn("system");
  spec.user = turn("user");
  spec.assistant = turn("assistant");
  spec.strips_content = true;
  spec.end_token = "<|eot_id|>";
  spec.special_tokens = {spec.start, "<|start_header_id|>", "<|end_header_id|>", spec.end_token};
  return spec;
}

TemplateSpec llama3_1(const SpecialTokens& tokens) {
  TemplateSpec spec = llama3(tokens);
  spec.name = "llama3.1";
  spec.default_system = "";
  spec.system.lead = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
  return spec;
}

TemplateSpec zephyr(const SpecialTokens& tokens) {
  const std::string eos = tokens.eos.value_or("</s>");
  TemplateSpec spec;
  spec.name = "zephyr";
  spec.system = {"<|system|>\n", "", eos, "\n"};
  spec.user = {"<|user|>\n", "", eos, "\n"};
  spec.assistant = {"<|assistant|>\n", "", eos, "\n"};
  spec.end_token = eos;
  spec.special_tokens = {eos};
  return spec;
}

TemplateSpec plain(const SpecialTokens& tokens) {
  TemplateSpec spec;
  spec.name = "plain";
  spec.assistant.end = tokens.eos.value_or("");
  spec.joins_with_newline = true;
  return spec;
}

}  // namespace

std::vector<TemplateSpec> builtin_templates(const SpecialTokens& tokens) {
  return {chatml("chatml"),
          chatml("smollm2", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
          chatml("qwen", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
          glm4(),
          llama2(tokens),
          llama3(tokens),
          llama3_1(tokens),
          zephyr(tokens),
          plain(tokens)};
}

std::vector<TemplateSpec> template_variants(const SpecialTokens&) {
  TemplateSpec without_empty_turns = glm4();
  without_empty_turns.skips_empty = true;
  return {std::move(without_empty_turns), chatml("qwen", "You are a helpful assistant.")};
}

std::vector<std::string> builtin_template_names() {
  std::vector<std::string> names;
  for (const TemplateSpec& spec : builtin_templates({})) names.push_back(spec.name);
  return names;
}

}  // namespace autoglm
