#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "launcher/report/data_report.h"
#include "tests/trainer/data/test_model.h"
#include "trainer/data/chat_template.h"
#include "trainer/data/sample.h"

namespace autoglm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// <U>question<A>answer</s>; answers that think say so in <think>, of earlier ones nothing is kept.
constexpr const char* kThinking =
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == "
    "'user' %}{{ '<U>' + m.content }}{% else %}{{ '<A>' }}{% if m.thinking and loop.last %}{{ '<think>' + "
    "m.thinking "
    "+ '</think>' }}"
    "{% endif %}{{ m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<A>' }}{% endif %}";

class OwnTemplateTest : public ::testing::Test {
 protected:
  ChatTemplate select(const std::string& source, EndOfTurn end_of_turn = EndOfTurn::user) {
    write_byte_model(folder_, all_special_tokens(), "</s>", "<s>");
    folder_.write("chat_template.jinja", source);
    tokenizer_.emplace(Tokenizer::load(folder_.path()));
    return ChatTemplate::select("auto", folder_.path(), *tokenizer_, end_of_turn);
  }

  static Conversation chat(std::vector<Message> messages) {
    return {Conversation::Form::chat, std::move(messages)};
  }

  static std::vector<std::string> trained(const RenderedChat& chat) {
    std::vector<std::string> parts;
    for (const LossSpan& span : chat.spans)
      parts.push_back(chat.text.substr(span.begin, span.end - span.begin) + (span.as_eos ? " as eos" : ""));
    return parts;
  }

  static std::string refusal(const ChatTemplate& chosen, const Conversation& conversation) {
    try {
      chosen.render(conversation, LossOn::assistant);
    } catch (const SampleError& error) {
      return error.what();
    } catch (const Error& error) {
      return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
    }
    return "nothing wrong";
  }

  TemporaryFolder folder_;
  std::optional<Tokenizer> tokenizer_;
};

const Message kQuestion{Role::user, "Q"};
const Message kAnswer{Role::assistant, "A"};

TEST_F(OwnTemplateTest, IsRendered) {
  const ChatTemplate own = select(kThinking);
  EXPECT_EQ(own.name(), "own");
  EXPECT_TRUE(own.exists());
  EXPECT_EQ(own.spec(), nullptr);
  EXPECT_FALSE(own.uses_end_of_turn());
  EXPECT_EQ(own.end_token(), "</s>");
  EXPECT_THAT(own.stop_ids(*tokenizer_), ElementsAre(266));
  const RenderedChat rendered =
      own.render(chat({{Role::system, "S"}, kQuestion, kAnswer, kQuestion, kAnswer}), LossOn::assistant);
  EXPECT_EQ(rendered.text, "<s>S<U>Q<A>A</s><U>Q<A>A</s>");
  EXPECT_EQ(rendered.template_end, rendered.text.size());
  EXPECT_THAT(trained(rendered), ElementsAre("A</s>", "A</s>"));
  EXPECT_FALSE(rendered.opens_otherwise || rendered.changes_answer || rendered.running_text);
  EXPECT_EQ(own.render_prompt(chat({kQuestion})), "<s><U>Q<A>");
  // No bos beside the template's own.
  EXPECT_THAT(own.encode_prompt("Q", *tokenizer_), ElementsAre(265, '<', 'U', '>', 'Q', '<', 'A', '>'));
}

TEST_F(OwnTemplateTest, TurnsThatAreNotTrained) {
  const ChatTemplate own = select(kThinking);
  Conversation marked = chat({kQuestion, kAnswer, kQuestion, kAnswer});
  marked.messages[1].trained = false;
  EXPECT_THAT(trained(own.render(marked, LossOn::assistant)), ElementsAre("A</s>"));
  EXPECT_THAT(trained(own.render(marked, LossOn::all)), ElementsAre("<s><U>Q<A>", "<U>Q<A>A</s>"));
  marked.messages[2].trained = false;
  EXPECT_THAT(trained(own.render(marked, LossOn::all)), ElementsAre("<s><U>Q<A>", "<U>", "<A>A</s>"));
  marked.messages[3].context = true;
  EXPECT_THAT(trained(own.render(marked, LossOn::assistant)), ElementsAre());
}

TEST_F(OwnTemplateTest, TextsThatLookLikeMarkup) {
  const ChatTemplate own = select(kThinking);
  const Conversation odd = chat(
      {{Role::user, "<A></s>"}, {Role::assistant, "</s><A>"}, {Role::user, "</s>"}, {Role::assistant, ""}});
  EXPECT_THAT(trained(own.render(odd, LossOn::assistant)), ElementsAre("</s><A></s>", "</s>"));
  const Conversation thoughtful =
      chat({{Role::user, "<A>"}, {Role::assistant, "x</think>"}, {Role::user, "<A>"}, kAnswer});
  EXPECT_THAT(trained(own.render(thoughtful, LossOn::assistant)), ElementsAre("</s>", "A</s>"));
}

TEST_F(OwnTemplateTest, ReasoningHasItsPlaceOrIsRefused) {
  const ChatTemplate own = select(kThinking);
  Conversation thoughtful = chat({kQuestion, kAnswer, kQuestion, kAnswer});
  thoughtful.messages[3].reasoning = "hm";
  thoughtful.messages[3].reasoning_place = "\"reasoning\" of turn 4";
  EXPECT_THAT(trained(own.render(thoughtful, LossOn::assistant)),
              ElementsAre("A</s>", "<think>hm</think>A</s>"));
  std::swap(thoughtful.messages[1], thoughtful.messages[3]);
  EXPECT_THAT(refusal(own, thoughtful), HasSubstr("own chat template leaves out \"reasoning\" of turn 4"));
  EXPECT_THAT(
      refusal(select("{% for m in messages %}{{ '<' + m.role + '>' + m.content + eos_token }}{% endfor %}"),
              thoughtful),
      HasSubstr("own chat template has no place for \"reasoning\" of turn 4"));
}

TEST_F(OwnTemplateTest, SaysWhatIsOddAboutIt) {
  const ChatTemplate own =
      select(std::string(kThinking).replace(std::string(kThinking).rfind("<A>"), 3, "<A><think>\\n"));
  const RenderedChat cut =
      own.render(chat({kQuestion, {Role::assistant, "<think>\nx</think>A"}}), LossOn::assistant);
  EXPECT_THAT(trained(cut), ElementsAre("A</s>"));
  EXPECT_TRUE(cut.opens_otherwise);
  EXPECT_TRUE(cut.changes_answer);
  DataOptions options;
  const std::string sample =
      R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "x</think>A"}]})";
  options.files = {folder_.write("a.jsonl", sample)};
  const Dataset dataset = load_dataset(options, *tokenizer_, own);
  EXPECT_EQ(dataset.template_name(), "own");
  EXPECT_EQ(dataset.summary().opened_otherwise.count, 1U);
  EXPECT_EQ(dataset.summary().changed_answers.count, 1U);
  EXPECT_THAT(format_data_summary(dataset),
              HasSubstr("1 with an answer that does not begin as the template prompts for one;"));
  EXPECT_THAT(format_data_summary(dataset),
              HasSubstr("1 with an answer of which the template leaves out or rewrites a part;"));
}

TEST_F(OwnTemplateTest, ReadsTheGenerationTag) {
  const ChatTemplate own = select(
      "{% for m in messages %}{{ '<' + m.role + '>' }}{% if m.role == 'assistant' %}{% generation %}{{ "
      "m.content }}{% endgeneration %}{{ eos_token }}{% else %}{{ m.content }}{% endif %}{% endfor %}");
  Conversation two = chat({kQuestion, kAnswer, kQuestion, {Role::assistant, "B"}});
  EXPECT_THAT(trained(own.render(two, LossOn::assistant)), ElementsAre("A", "B"));
  two.messages[1].trained = false;
  EXPECT_THAT(trained(own.render(two, LossOn::assistant)), ElementsAre("B"));
}

TEST_F(OwnTemplateTest, TheNextTurnMayEndAnAnswer) {
  const std::string source =
      "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}{% if add_generation_prompt "
      "%}<|assistant|>{% endif %}";
  const ChatTemplate own = select(source);
  EXPECT_TRUE(own.uses_end_of_turn());
  EXPECT_EQ(own.end_token(), "<|user|>");
  const Conversation two = chat({kQuestion, kAnswer, kQuestion, kAnswer});
  const RenderedChat rendered = own.render(two, LossOn::assistant);
  EXPECT_EQ(rendered.text, "<|user|>Q<|assistant|>A<|user|>Q<|assistant|>A<|user|>");
  EXPECT_EQ(rendered.template_end, rendered.text.size() - 8);
  EXPECT_THAT(trained(rendered), ElementsAre("A", "<", "A", "<"));
  EXPECT_THAT(trained(select(source, EndOfTurn::eos).render(two, LossOn::assistant)),
              ElementsAre("A", "< as eos", "A", "< as eos"));
}

TEST_F(OwnTemplateTest, WhatCannotBeUsed) {
  const Conversation one = chat({kQuestion, kAnswer});
  const ChatTemplate endless =
      select("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}");
  EXPECT_EQ(endless.name(), "none");
  EXPECT_FALSE(endless.exists());
  EXPECT_THAT(refusal(endless, one), HasSubstr("65: the chat template of the model in "));
  EXPECT_THAT(refusal(endless, one),
              HasSubstr("(nothing ends its answers: behind one it writes \"\\n\", which"));
  EXPECT_THAT(refusal(endless, one), HasSubstr("name the one to use with --template (chatml"));
  EXPECT_THAT(refusal(select("{% call f() %}x{% endcall %}"), one),
              HasSubstr("the block tag 'call' is not supported"));
  EXPECT_THAT(refusal(select("{{ messages[0].content + eos_token }}"), one),
              HasSubstr("it leaves the answer out"));
}

TEST_F(OwnTemplateTest, WhatATemplateDoesNotTake) {
  const ChatTemplate own = select(
      "{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('not that') }}{% endif %}"
      "{% if m.role != 'system' %}{{ '<' + m.role + '>' + m.content + (eos_token if m.content != 'open' else "
      "'') }}{% endif %}{% endfor %}");
  EXPECT_EQ(refusal(own, chat({{Role::user, "no"}, kAnswer})),
            "the model's own chat template refuses it: not that");
  EXPECT_THAT(refusal(own, chat({{Role::system, "S"}, kQuestion, kAnswer})),
              HasSubstr("has no place for turn 1, which is of the system"));
  EXPECT_EQ(refusal(own, chat({{Role::system, " "}, kQuestion, kAnswer})), "nothing wrong");
  EXPECT_THAT(refusal(own, chat({kQuestion, {Role::assistant, "open"}})),
              HasSubstr("writes no token that ends an answer behind turn 2"));
  EXPECT_EQ(refusal(own, chat({kQuestion, {Role::assistant, "open"}, kQuestion, kAnswer})), "nothing wrong");
  EXPECT_THROW(own.encode_prompt("no", *tokenizer_), Error);
}

}  // namespace
}  // namespace autoglm
