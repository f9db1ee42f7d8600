#include "trainer/data/conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"

namespace autoglm {
namespace {

using ::testing::HasSubstr;

// "user: a | assistant: b"
std::string read(const std::string& json) {
  std::string text;
  for (const Message& message : parse_conversation(json).messages) {
    text += (text.empty() ? "" : " | ") + std::string(to_string(message.role)) + ": " + message.content +
            (message.trained ? "" : " (not trained)");
  }
  return text;
}

std::string problem(const std::string& json) {
  try {
    parse_conversation(json);
  } catch (const SampleError& error) {
    return error.what();
  } catch (const JsonError& error) {
    return std::string("JSON: ") + error.what();
  }
  return "nothing wrong";
}

TEST(ConversationTest, Messages) {
  EXPECT_EQ(read(R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
                    {"role": "assistant", "content": ""}], "other": [1]})"),
            "system: s | user: u | assistant: ");
}

TEST(ConversationTest, ContentInParts) {
  EXPECT_EQ(read(R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a "},
                    {"type": "text", "text": "b"}, "c"]}]})"),
            "user: a bc");
}

TEST(ConversationTest, WeightLeavesTurnsOut) {
  EXPECT_EQ(
      read(
          R"({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a", "weight": 0},
                    {"role": "assistant", "content": "b", "weight": 1}]})"),
      "user: u | assistant: a (not trained) | assistant: b");
}

TEST(ConversationTest, ShareGpt) {
  EXPECT_EQ(read(R"({"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}],
                    "system": "s", "tools": ""})"),
            "system: s | user: u | assistant: a");
  EXPECT_EQ(read(R"({"conversations": [{"role": "user", "content": "u"}]})"), "user: u");
}

TEST(ConversationTest, Alpaca) {
  EXPECT_EQ(read(R"({"instruction": "i", "input": "", "output": "o"})"), "user: i | assistant: o");
  EXPECT_EQ(
      read(
          R"({"instruction": "i", "input": "n", "output": "o", "system": "s", "history": [["q", "r"], ["p", "t"]]})"),
      "system: s | user: q | assistant: r | user: p | assistant: t | user: i\nn | assistant: o");
}

TEST(ConversationTest, CompletionAndText) {
  const Conversation completion = parse_conversation(R"({"prompt": "p", "completion": " c"})");
  EXPECT_EQ(completion.form, Conversation::Form::completion);
  EXPECT_EQ(completion.messages.at(1).content, " c");
  const Conversation text = parse_conversation("{\"text\": \"Gr\\u00fc\\u00dfe \\ud83d\\ude00\"}");
  EXPECT_EQ(text.form, Conversation::Form::text);
  EXPECT_EQ(text.messages.at(0).content, "Grüße 😀");
}

TEST(ConversationTest, RefusesWhatItCannotTrain) {
  EXPECT_THAT(problem(R"({"messages": [{"role": "usr", "content": "u"}]})"),
              HasSubstr("unknown role \"usr\""));
  EXPECT_THAT(problem(R"({"messages": [{"role": "tool", "content": "u"}]})"),
              HasSubstr("tool calls are not supported"));
  EXPECT_THAT(problem(R"({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]})"),
              HasSubstr("\"tool_calls\""));
  EXPECT_THAT(problem(R"({"conversations": [{"from": "human", "value": "u"}], "tools": "[{}]"})"),
              HasSubstr("\"tools\""));
  EXPECT_THAT(problem(R"({"messages": [{"role": "user", "content": "u"}], "images": ["a.png"]})"),
              HasSubstr("\"images\""));
  EXPECT_THAT(problem(R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})"),
              HasSubstr("image_url"));
}

TEST(ConversationTest, RefusesMisplacedSystemTurns) {
  EXPECT_THAT(
      problem(R"({"messages": [{"role": "user", "content": "u"}, {"role": "system", "content": "s"}]})"),
      HasSubstr("turn 2 is a system turn"));
  EXPECT_THAT(problem(R"({"conversations": [{"from": "system", "value": "a"}], "system": "s"})"),
              HasSubstr("turn 1 is a system turn"));
}

TEST(ConversationTest, RefusesWrongShapes) {
  EXPECT_THAT(problem("[]"), HasSubstr("must be a JSON object, not array"));
  EXPECT_THAT(problem("{}"), HasSubstr("none of the fields"));
  EXPECT_THAT(problem(R"({"prompt": "p"})"), HasSubstr("none of the fields"));
  EXPECT_THAT(problem(R"({"messages": "x"})"), HasSubstr("must be a list, not string"));
  EXPECT_THAT(problem(R"({"messages": []})"), HasSubstr("is empty"));
  EXPECT_THAT(problem(R"({"messages": [3]})"), HasSubstr("turn 1 must be an object"));
  EXPECT_THAT(problem(R"({"messages": [{"content": "u"}]})"), HasSubstr("turn 1 has no \"role\""));
  EXPECT_THAT(problem(R"({"messages": [{"role": "user"}]})"), HasSubstr("turn 1 has no \"content\""));
  EXPECT_THAT(problem(R"({"messages": [{"role": "user", "content": null}]})"),
              HasSubstr("must be a string, not null"));
  EXPECT_THAT(problem(R"({"messages": [{"role": "assistant", "content": "", "weight": 0.5}]})"),
              HasSubstr("0 or 1"));
  EXPECT_THAT(problem(R"({"instruction": "i"})"), HasSubstr("no \"output\""));
  EXPECT_THAT(problem(R"({"instruction": "i", "output": 3})"), HasSubstr("\"output\" must be a string"));
  EXPECT_THAT(problem(R"({"instruction": "i", "output": "o", "history": [["q"]]})"),
              HasSubstr("[question, answer]"));
  EXPECT_THAT(problem(R"({"text": ""})"), HasSubstr("is empty"));
}

}  // namespace
}  // namespace autoglm
