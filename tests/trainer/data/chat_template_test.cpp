#include "trainer/data/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/error.h"
#include "tests/trainer/data/test_model.h"

namespace autoglm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Conversation kChat{Conversation::Form::chat,
                         {{Role::system, "S"},
                          {Role::user, "U "},
                          {Role::assistant, " A"},
                          {Role::user, "V"},
                          {Role::assistant, "B"}}};

class ChatTemplateTest : public ::testing::Test {
 protected:
  void use(const std::string& eos, const std::optional<std::string>& bos = std::nullopt) {
    write_byte_model(folder_, all_special_tokens(), eos, bos);
    tokenizer_.emplace(Tokenizer::load(folder_.path()));
  }

  ChatTemplate select(const std::string& name, EndOfTurn end_of_turn = EndOfTurn::user) const {
    return ChatTemplate::select(name, folder_.path(), *tokenizer_, end_of_turn);
  }

  std::string problem(const std::string& name, EndOfTurn end_of_turn = EndOfTurn::user) const {
    try {
      select(name, end_of_turn);
    } catch (const Error& error) {
      return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
    }
    return "nothing wrong";
  }

  static std::vector<std::string> trained(const RenderedChat& chat) {
    std::vector<std::string> parts;
    for (const LossSpan& span : chat.spans) {
      parts.push_back(chat.text.substr(span.begin, span.end - span.begin) + (span.as_eos ? " as eos" : ""));
    }
    return parts;
  }

  TemporaryFolder folder_;
  std::optional<Tokenizer> tokenizer_;
};

TEST_F(ChatTemplateTest, ChatMl) {
  use("<|im_end|>");
  const RenderedChat chat = select("chatml").render(kChat, LossOn::assistant);
  EXPECT_EQ(
      chat.text,
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU <|im_end|>\n<|im_start|>assistant\n A<|im_end|>\n"
      "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n");
  EXPECT_EQ(chat.template_end, chat.text.size());
  EXPECT_THAT(trained(chat), ElementsAre(" A<|im_end|>", "B<|im_end|>"));
}

TEST_F(ChatTemplateTest, DefaultSystemTurns) {
  use("<|im_end|>");
  const Conversation chat{Conversation::Form::chat, {{Role::user, "U"}}};
  const std::string user = "<|im_start|>user\nU<|im_end|>\n";
  EXPECT_EQ(select("chatml").render(chat, LossOn::assistant).text, user);
  EXPECT_EQ(
      select("qwen").render(chat, LossOn::assistant).text,
      "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n" +
          user);
  EXPECT_EQ(
      select("smollm2").render(chat, LossOn::assistant).text,
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n" +
          user);
}

TEST_F(ChatTemplateTest, Glm4) {
  use("<|endoftext|>");
  const std::string text =
      "[gMASK]<sop><|system|>\nS<|user|>\nU <|assistant|>\n A<|user|>\nV<|assistant|>\nB";
  const RenderedChat by_user = select("glm4").render(kChat, LossOn::assistant);
  EXPECT_EQ(by_user.text, text + "<|user|>");
  EXPECT_EQ(by_user.template_end, text.size());
  EXPECT_THAT(trained(by_user), ElementsAre("\n A", "<", "\nB", "<"));
  const RenderedChat by_eos = select("glm4", EndOfTurn::eos).render(kChat, LossOn::assistant);
  EXPECT_EQ(by_eos.text, text + "<|endoftext|>");
  EXPECT_THAT(trained(by_eos), ElementsAre("\n A", "< as eos", "\nB", "< as eos"));
  EXPECT_THAT(trained(select("glm4", EndOfTurn::eos).render(kChat, LossOn::all)),
              ElementsAre(by_eos.text, "< as eos", "< as eos"));
}

TEST_F(ChatTemplateTest, Glm4EndingWithAQuestion) {
  use("<|endoftext|>");
  Conversation chat = kChat;
  chat.messages.pop_back();
  const RenderedChat rendered = select("glm4").render(chat, LossOn::assistant);
  EXPECT_EQ(rendered.text, "[gMASK]<sop><|system|>\nS<|user|>\nU <|assistant|>\n A<|user|>\nV");
  EXPECT_THAT(trained(rendered), ElementsAre("\n A", "<"));
}

TEST_F(ChatTemplateTest, Llama2) {
  use("</s>", "<s>");
  const RenderedChat chat = select("llama2").render(kChat, LossOn::assistant);
  EXPECT_EQ(chat.text, "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST] B </s>");
  EXPECT_THAT(trained(chat), ElementsAre(" A </s>", " B </s>"));
}

TEST_F(ChatTemplateTest, Llama2TakesTurns) {
  use("</s>", "<s>");
  const ChatTemplate llama2 = select("llama2");
  const auto refused = [&](std::vector<Message> messages) {
    EXPECT_THROW(llama2.render({Conversation::Form::chat, std::move(messages)}, LossOn::assistant),
                 SampleError);
  };
  refused({{Role::assistant, "A"}});
  refused({{Role::user, "U"}, {Role::user, "V"}});
  refused({{Role::system, "S"}});
}

TEST_F(ChatTemplateTest, Llama3) {
  use("<|eot_id|>", "<|begin_of_text|>");
  const auto turn = [](const std::string& role, const std::string& content) {
    return "<|start_header_id|>" + role + "<|end_header_id|>\n\n" + content + "<|eot_id|>";
  };
  const std::string turns =
      turn("user", "U") + turn("assistant", "A") + turn("user", "V") + turn("assistant", "B");
  const RenderedChat chat = select("llama3").render(kChat, LossOn::assistant);
  EXPECT_EQ(chat.text, "<|begin_of_text|>" + turn("system", "S") + turns);
  EXPECT_THAT(trained(chat), ElementsAre("A<|eot_id|>", "B<|eot_id|>"));
  const std::string date = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
  EXPECT_EQ(select("llama3.1").render(kChat, LossOn::assistant).text,
            "<|begin_of_text|>" + turn("system", date + "S") + turns);
}

TEST_F(ChatTemplateTest, PlainChatsAndCompletions) {
  use("</s>");
  const RenderedChat chat = select("plain").render(kChat, LossOn::assistant);
  EXPECT_EQ(chat.text, "S\nU \n A</s>\nV\nB</s>");
  EXPECT_THAT(trained(chat), ElementsAre(" A</s>", "B</s>"));
  const Conversation completion{Conversation::Form::completion,
                                {{Role::user, "2+2="}, {Role::assistant, "4"}}};
  EXPECT_EQ(select("plain").render(completion, LossOn::assistant).text, "2+2=4</s>");
}

TEST_F(ChatTemplateTest, RunningTextNeedsNoTemplate) {
  use("</s>", "<s>");
  const RenderedChat text =
      select("auto").render({Conversation::Form::text, {{Role::assistant, "abc"}}}, LossOn::assistant);
  EXPECT_EQ(text.text, "abc</s>");
  EXPECT_TRUE(text.running_text);
  EXPECT_THAT(trained(text), ElementsAre("abc</s>"));
}

TEST_F(ChatTemplateTest, LeavesOutTurnsMarkedAsNotTrained) {
  use("<|endoftext|>");
  Conversation chat = kChat;
  chat.messages[2].trained = false;
  EXPECT_THAT(trained(select("chatml").render(chat, LossOn::assistant)), ElementsAre("B<|im_end|>"));
  EXPECT_THAT(trained(select("glm4").render(chat, LossOn::assistant)), ElementsAre("\nB", "<"));
}

TEST_F(ChatTemplateTest, LossOnAllLeavesMarkedTurnsOut) {
  use("<|endoftext|>");
  Conversation chat = kChat;
  chat.messages[2].trained = false;
  const RenderedChat chatml = select("chatml").render(chat, LossOn::all);
  ASSERT_EQ(chatml.spans.size(), 2U);
  EXPECT_TRUE(trained(chatml)[0].ends_with("<|im_start|>assistant\n"));
  EXPECT_TRUE(trained(chatml)[1].starts_with("\n<|im_start|>user"));
  const RenderedChat glm4 = select("glm4").render(chat, LossOn::all);
  EXPECT_THAT(trained(glm4), ElementsAre("[gMASK]<sop><|system|>\nS<|user|>\nU <|assistant|>",
                                         "|user|>\nV<|assistant|>\nB<|user|>"));
  EXPECT_THAT(trained(select("auto").render({Conversation::Form::text, {{Role::assistant, "x", false}}},
                                            LossOn::all)),
              ElementsAre());
}

TEST_F(ChatTemplateTest, ReasoningNeedsAPlace) {
  use("</s>", "<s>");
  Conversation chat = kChat;
  chat.messages[2].reasoning = "hm";
  chat.messages[2].reasoning_place = "\"reasoning\" of turn 3";
  for (const std::string& name : builtin_template_names()) {
    try {
      select(name).render(chat, LossOn::assistant);
      FAIL() << name;
    } catch (const SampleError& error) {
      EXPECT_THAT(error.what(),
                  HasSubstr("the template " + name + " has no place for \"reasoning\" of turn 3; put it "));
    }
  }
}

TEST_F(ChatTemplateTest, AUserTurnThatWantsTrainingNeedsLossOnAll) {
  use("</s>");
  Conversation chat = kChat;
  chat.messages[1].wants_training = "turn 2 wants it";
  EXPECT_THROW(select("chatml").render(chat, LossOn::assistant), SampleError);
  EXPECT_NO_THROW(select("chatml").render(chat, LossOn::all));
}

TEST_F(ChatTemplateTest, PlainHasNoPlaceForASystemTurnBesideACompletion) {
  use("</s>");
  const Conversation completion{Conversation::Form::completion,
                                {{Role::system, "S"}, {Role::user, "p"}, {Role::assistant, "c"}}};
  EXPECT_THROW(select("plain").render(completion, LossOn::assistant), SampleError);
  EXPECT_THAT(select("chatml").render(completion, LossOn::assistant).text, HasSubstr("system\nS<|im_end|>"));
}

TEST_F(ChatTemplateTest, EverySpecialTokenOfATemplateIsNeeded) {
  for (const std::string& name : builtin_template_names()) {
    use("</s>", "<s>");
    for (const TemplateSpec& spec : builtin_templates(select("plain").special_tokens())) {
      if (spec.name != name) continue;
      for (const std::string& needed : spec.special_tokens) {
        std::vector<std::string> tokens = all_special_tokens();
        std::erase(tokens, needed);
        write_byte_model(folder_, tokens, "</s>", "<s>");
        tokenizer_.emplace(Tokenizer::load(folder_.path()));
        EXPECT_THAT(problem(name), HasSubstr("65: the tokenizer of the model in")) << needed;
        EXPECT_THAT(problem(name), HasSubstr("has no token " + needed + ", w")) << needed;
      }
    }
  }
}

TEST_F(ChatTemplateTest, AnEosThatTheTokenizerLacksIsNeverSpelled) {
  write_byte_model(folder_, {"<|im_start|>", "<|im_end|>"}, "</s>");
  tokenizer_.emplace(Tokenizer::load(folder_.path()));
  const Conversation text{Conversation::Form::text, {{Role::assistant, "abc"}}};
  for (const char* name : {"auto", "plain"}) {
    try {
      select(name).render(text, LossOn::assistant);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_data);
      EXPECT_THAT(error.what(), HasSubstr("has no token </s>, with which texts are to end"));
    }
  }
  EXPECT_THROW(select("plain").render(kChat, LossOn::assistant), Error);
  EXPECT_NO_THROW(select("chatml").render(kChat, LossOn::assistant));
}

TEST_F(ChatTemplateTest, PromptsAndStops) {
  use("<|endoftext|>", "<s>");
  folder_.write("generation_config.json", R"({"eos_token_id": [256, 65, 99999]})");
  const ChatTemplate glm4 = select("glm4");
  EXPECT_EQ(glm4.render_prompt({Conversation::Form::chat, {{Role::user, "U"}}}),
            "[gMASK]<sop><|user|>\nU<|assistant|>");
  EXPECT_THAT(glm4.encode_prompt("U", *tokenizer_), ElementsAre(259, 260, 262, '\n', 'U', 263));
  // Of the tokenizer, of generation_config.json (but not what is no token), and of the template.
  EXPECT_THAT(glm4.stop_ids(*tokenizer_), ElementsAre(256, 65, 264, 262));
  EXPECT_THAT(select("plain").encode_prompt("U", *tokenizer_), ElementsAre(265, 'U', '\n'));
  EXPECT_THAT(select("auto").encode_prompt("U", *tokenizer_), ElementsAre(265, 'U'));
}

TEST_F(ChatTemplateTest, AutoReadsTheModelsTemplate) {
  use("<|endoftext|>");
  const std::string chatml =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  folder_.write("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "x"},
      {"name": "default", "template": "{{ messages[0].content }}"}]})");
  EXPECT_EQ(select("auto").name(), "none");
  folder_.write("chat_template.jinja", chatml);
  EXPECT_EQ(select("auto").name(), "chatml");
}

TEST_F(ChatTemplateTest, AutoWithoutATemplateFailsAtTheFirstChat) {
  use("</s>");
  const ChatTemplate none = select("auto");
  try {
    none.render(kChat, LossOn::assistant);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_data);
    EXPECT_THAT(error.what(),
                HasSubstr("is missing; name the one to use with --template (chatml, smollm2, qwen, glm4"));
  }
}

TEST_F(ChatTemplateTest, RefusesWhatDoesNotFitTheModel) {
  use("</s>");
  EXPECT_THAT(problem("chatlm"), HasSubstr("64: --template takes auto or one of chatml, smollm2"));
  write_byte_model(folder_, {"</s>"});
  tokenizer_.emplace(Tokenizer::load(folder_.path()));
  EXPECT_THAT(problem("chatml"), HasSubstr("65: the tokenizer of the model in"));
  EXPECT_THAT(problem("chatml"), HasSubstr("has no token <|im_end|>"));
  EXPECT_EQ(problem("plain"), "nothing wrong");
  write_byte_model(folder_, {"<|user|>"});
  tokenizer_.emplace(Tokenizer::load(folder_.path()));
  EXPECT_THAT(problem("glm4", EndOfTurn::eos), HasSubstr("65: --eot eos needs an end-of-sequence token"));
}

TEST_F(ChatTemplateTest, RefusesBrokenModelFiles) {
  use("</s>");
  folder_.write("tokenizer_config.json", R"({"eos_token": 5})");
  EXPECT_THAT(problem("plain"), HasSubstr("tokenizer_config.json: \"eos_token\" is neither"));
  folder_.write("tokenizer_config.json", "{");
  EXPECT_THAT(problem("plain"), HasSubstr("65: "));
  folder_.write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_THAT(problem("auto"), HasSubstr("\"chat_template\" is neither"));
}

TEST_F(ChatTemplateTest, NeverWaitsForAPipe) {
  write_byte_model(folder_, {"</s>"});
  const Tokenizer tokenizer = Tokenizer::load(folder_.path());
  for (const char* name : {"generation_config.json", "config.json", "chat_template.jinja"}) {
    const std::filesystem::path pipe = folder_.path() / name;
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    try {
      ChatTemplate::select("auto", folder_.path(), tokenizer);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_data);
      EXPECT_EQ(error.what(), pipe.string() + ": is not a regular file");
    }
    std::filesystem::remove(pipe);
  }
}

}  // namespace
}  // namespace autoglm
