#include "trainer/data/sample_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"

namespace autoglm {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

// "user: a | assistant: b (not trained)"
std::string read(const json& sample) {
  std::string text;
  for (const Message& message : parse_conversation(sample.dump()).messages) {
    text += (text.empty() ? "" : " | ") + std::string(to_string(message.role)) + ": " + message.content +
            (message.trained ? "" : " (not trained)");
  }
  return text;
}

std::string problem(const json& sample) {
  try {
    parse_conversation(sample.dump());
  } catch (const SampleError& error) {
    return error.what();
  }
  return "nothing wrong";
}

std::vector<std::string> unread(const json& sample) {
  std::vector<std::string> names;
  for (const UnreadField& field : parse_conversation(sample.dump()).unread)
    names.push_back(std::string(to_string(field.place)) + " " + field.name);
  return names;
}

json chat(const json& answer_fields = json::object()) {
  json answer = {{"role", "assistant"}, {"content", "a"}};
  answer.update(answer_fields);
  return {{"messages", {{{"role", "user"}, {"content", "u"}}, answer}}};
}

// A sample of each form.
json sample_of(SampleForm form) {
  if (form == kMessagesForm) return chat();
  if (form == kConversationsForm)
    return {{"conversations", {{{"from", "human"}, {"value", "u"}}, {{"from", "gpt"}, {"value", "a"}}}}};
  if (form == kAlpacaForm) return {{"instruction", "i"}, {"output", "o"}};
  if (form == kCompletionForm) return {{"prompt", "p"}, {"completion", "c"}};
  return {{"text", "t"}};
}

constexpr std::array kForms{kMessagesForm, kConversationsForm, kAlpacaForm, kCompletionForm, kTextForm};

TEST(FieldTableTest, TheDocsHoldIt) {
  std::ifstream stream(AUTOGLM_SOURCE_DIR "/docs/data.md");
  const std::string page((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  EXPECT_THAT(page, HasSubstr("\n\n" + field_rules_as_markdown() + "\n"));
}

TEST(FieldTableTest, EveryFieldStandsOnceForAForm) {
  for (const SampleForm form : kForms) {
    std::set<std::pair<FieldPlace, std::string_view>> seen;
    for (const FieldRule& rule : field_rules()) {
      if ((rule.forms & form) == 0) continue;
      EXPECT_TRUE(seen.emplace(rule.place, rule.name).second) << rule.name;
    }
  }
}

// What the table says of a sample's field is what happens, in every form.
TEST(FieldTableTest, HoldsForEverySample) {
  for (const SampleForm form : kForms) {
    for (const FieldRule& rule : field_rules()) {
      json sample = sample_of(form);
      if (rule.place != FieldPlace::sample || (rule.forms & form) == 0 || sample.contains(rule.name))
        continue;
      const std::string name(rule.name);
      sample[name] = nullptr;
      EXPECT_EQ(problem(sample), "nothing wrong") << name;
      EXPECT_THAT(unread(sample), ::testing::IsEmpty());
      if (rule.use == FieldUse::refused) {
        sample[name] = rule.when == FieldRule::When::is_false ? json(false) : json("x");
        EXPECT_THAT(problem(sample), AllOf(HasSubstr("it has \"" + name + "\""), HasSubstr(rule.words)));
      } else if (rule.use == FieldUse::harmless) {
        sample[name] = 5;
        EXPECT_THAT(unread(sample), ::testing::IsEmpty()) << name;
      } else {
        sample[name] = 0.5;
        EXPECT_THAT(problem(sample), HasSubstr("\"" + name + "\"")) << "an honoured field is looked at";
      }
    }
  }
}

TEST(FieldTableTest, HoldsForEveryTurn) {
  for (const FieldRule& rule : field_rules()) {
    const std::string name(rule.name);
    if (rule.place != FieldPlace::turn ||
        std::set<std::string>{"role", "content", "from", "value"}.contains(name))
      continue;
    EXPECT_EQ(problem(chat({{name, nullptr}})), "nothing wrong") << name;
    if (rule.use == FieldUse::refused) {
      const json value = rule.when == FieldRule::When::is_false ? json(false) : json("x");
      EXPECT_THAT(problem(chat({{name, value}})),
                  AllOf(HasSubstr("turn 2 has \"" + name + "\""), HasSubstr(rule.words)));
    } else if (rule.use == FieldUse::harmless) {
      EXPECT_THAT(unread(chat({{name, 5}})), ::testing::IsEmpty()) << name;
    } else {
      EXPECT_THAT(problem(chat({{name, 0.5}})), HasSubstr("\"" + name + "\" of turn 2")) << name;
    }
  }
}

constexpr std::array kMasks{"weight", "train", "training", "trainable", "loss", "loss_mask", "loss_weight"};

TEST(MaskFieldsTest, OfATurn) {
  for (const char* field : kMasks) {
    for (const json& off : {json(0), json(0.0), json(false)})
      EXPECT_EQ(read(chat({{field, off}})), "user: u | assistant: a (not trained)") << field;
    for (const json& on : {json(1), json(1.0), json(true), json(nullptr)})
      EXPECT_EQ(read(chat({{field, on}})), "user: u | assistant: a") << field;
    for (const json& wrong :
         {json(0.3), json(2), json(-1), json("no"), json("0"), json::array({1}), json::object()})
      EXPECT_THAT(
          problem(chat({{field, wrong}})),
          HasSubstr(std::string("\"") + field + "\" of turn 2 must be 0 or 1, or false or true, not "));
  }
}

TEST(MaskFieldsTest, OfASample) {
  for (const char* field : kMasks) {
    for (const SampleForm form : kForms) {
      json sample = sample_of(form);
      sample[field] = false;
      for (const Message& message : parse_conversation(sample.dump()).messages) EXPECT_FALSE(message.trained);
      sample[field] = 1;
      for (const Message& message : parse_conversation(sample.dump()).messages) EXPECT_TRUE(message.trained);
      sample[field] = "no";
      EXPECT_THAT(problem(sample), HasSubstr(std::string("\"") + field + "\" must be 0 or 1"));
    }
  }
}

TEST(MaskFieldsTest, AListOfOnePerTurn) {
  json sample = chat();
  sample["messages"].push_back({{"role", "assistant"}, {"content", "b"}});
  sample["loss_mask"] = {0, 0, 1};
  EXPECT_EQ(read(sample), "user: u (not trained) | assistant: a (not trained) | assistant: b");
  sample["system_prompt"] = "s";
  EXPECT_EQ(read(sample), "system: s | user: u (not trained) | assistant: a (not trained) | assistant: b");
  sample["loss_mask"] = {0, nullptr, false, true};
  EXPECT_EQ(read(sample), "system: s (not trained) | user: u | assistant: a (not trained) | assistant: b");
  sample["loss_mask"] = {0, 1};
  EXPECT_THAT(problem(sample), HasSubstr("\"loss_mask\" has 2 entries for 4 turns"));
  sample["loss_mask"] = {0, 0, 3};
  EXPECT_THAT(problem(sample), HasSubstr("entry 3 of \"loss_mask\" must be 0 or 1"));
}

TEST(MaskFieldsTest, ContradictionsAndUserTurns) {
  EXPECT_THAT(problem(chat({{"train", true}, {"loss", false}})),
              HasSubstr("of turn 2 contradict each other"));
  EXPECT_EQ(read(chat({{"train", false}, {"weight", 1}})), "user: u | assistant: a (not trained)");
  json sample = chat();
  sample["messages"][0]["weight"] = 1;
  EXPECT_TRUE(parse_conversation(sample.dump()).messages[0].wants_training.empty());
  sample["messages"][0]["train"] = true;
  EXPECT_THAT(parse_conversation(sample.dump()).messages[0].wants_training,
              HasSubstr("turn 1 is of the user and \"train\" wants it trained"));
}

TEST(MaskFieldsTest, AListCountsEveryListedTurn) {
  json sample = chat();
  sample["messages"].insert(sample["messages"].begin(), json{{"role", "system"}, {"content", "s"}});
  sample["loss_mask"] = {0, 1};
  EXPECT_THAT(problem(sample), HasSubstr("\"loss_mask\" has 2 entries for 3 turns"));
  sample["loss_mask"] = {0, 0, 1};
  EXPECT_EQ(read(sample), "system: s (not trained) | user: u (not trained) | assistant: a");
}

TEST(MaskFieldsTest, TurnsOfAListAreNumberedAsTheyStand) {
  json sample = chat();
  sample.update({{"system", "s"}, {"train", {true, true, true}}});
  const std::vector<Message> messages = parse_conversation(sample.dump()).messages;
  EXPECT_THAT(messages[0].wants_training, ::testing::StartsWith("the system turn is of the system"));
  EXPECT_THAT(messages[1].wants_training, ::testing::StartsWith("turn 1 is of the user"));
}

TEST(MaskFieldsTest, ContradictionsOfASample) {
  json sample = chat({{"train", false}});
  sample["loss"] = {nullptr, true};
  EXPECT_THAT(problem(sample),
              HasSubstr("\"train\" of turn 2 and entry 2 of \"loss\" contradict each other"));
  sample["loss"] = {nullptr, false};
  EXPECT_EQ(read(sample), "user: u | assistant: a (not trained)");
  sample = chat();
  sample.update({{"train", true}, {"loss", false}});
  EXPECT_THAT(problem(sample),
              HasSubstr("\"train\" of the sample and \"loss\" of the sample contradict each other"));
  sample["train"] = {false, true};
  EXPECT_EQ(read(sample), "user: u (not trained) | assistant: a (not trained)") << "the whole sample is out";
}

TEST(NullColumnsTest, AreAbsent) {
  const json turns = chat()["messages"];
  EXPECT_EQ(read({{"messages", nullptr},
                  {"conversations", nullptr},
                  {"prompt", nullptr},
                  {"completion", nullptr},
                  {"instruction", nullptr},
                  {"text", "t"}}),
            "assistant: t");
  EXPECT_EQ(read({{"messages", json::array()}, {"prompt", "p"}, {"completion", "c"}}),
            "user: p | assistant: c");
  EXPECT_EQ(read({{"instruction", ""}, {"input", ""}, {"output", ""}, {"text", "t"}}), "assistant: t");
  EXPECT_EQ(
      read(
          {{"messages", turns}, {"tools", "[]"}, {"functions", " [ ] "}, {"images", json::array({nullptr})}}),
      "user: u | assistant: a");
  json both = turns;
  for (json& turn : both)
    turn.update({{"from", nullptr},
                 {"value", nullptr},
                 {"tool_calls", nullptr},
                 {"function_call", {{"name", nullptr}, {"arguments", nullptr}}}});
  EXPECT_EQ(read({{"conversations", both}}), "user: u | assistant: a");
  EXPECT_EQ(
      read({{"messages",
             {{{"role", "user"}, {"content", {{{"type", nullptr}, {"text", "x"}, {"image", nullptr}}}}}}}}),
      "user: x");
  EXPECT_THAT(problem({{"messages", nullptr}, {"text", nullptr}}), HasSubstr("none of the fields"));
  EXPECT_THAT(problem(chat({{"tool_calls", "[{}]"}})), HasSubstr("\"tool_calls\""));
}

TEST(SystemPromptTest, IsTheSystemTurn) {
  for (const SampleForm form : {kMessagesForm, kConversationsForm, kAlpacaForm, kCompletionForm}) {
    for (const char* field : {"system", "system_prompt"}) {
      json sample = sample_of(form);
      sample[field] = "s";
      EXPECT_THAT(read(sample), ::testing::StartsWith("system: s | user: ")) << field;
    }
  }
  EXPECT_THAT(problem({{"text", "t"}, {"system_prompt", "s"}}), HasSubstr("put it into \"text\""));
  json sample = chat();
  sample.update({{"system", "s"}, {"system_prompt", "s"}});
  EXPECT_EQ(read(sample), "system: s | user: u | assistant: a");
  sample["system_prompt"] = "other";
  EXPECT_THAT(problem(sample), HasSubstr("they differ"));
}

TEST(ReasoningTest, StandsInTheMessage) {
  for (const char* field : {"reasoning_content", "thinking", "reasoning"}) {
    const Message answer = parse_conversation(chat({{field, "r"}}).dump()).messages.at(1);
    EXPECT_EQ(answer.reasoning, "r");
    EXPECT_THAT(answer.reasoning_place, HasSubstr(std::string("\"") + field + "\" of turn 2"));
    EXPECT_EQ(parse_conversation(chat({{field, ""}}).dump()).messages.at(1).reasoning_place, "");
    json alpaca = sample_of(kAlpacaForm);
    alpaca[field] = "r";
    EXPECT_EQ(parse_conversation(alpaca.dump()).messages.at(1).reasoning, "r");
    json sample = chat();
    sample["messages"][0][field] = "r";
    EXPECT_THAT(problem(sample),
                HasSubstr("turn 1 has \"" + std::string(field) + "\", but is not of the assistant"));
  }
}

TEST(PreferenceDataTest, IsRefusedAsSuch) {
  json sample = chat();
  sample["label"] = false;
  EXPECT_THAT(problem(sample),
              HasSubstr("it has \"label\": false; the answer is a bad one, as in preference data"));
  sample["label"] = true;
  EXPECT_EQ(problem(sample), "nothing wrong");
  sample["label"] = 0;
  EXPECT_THAT(unread(sample), ::testing::ElementsAre("sample label"));
  EXPECT_THAT(problem({{"prompt", "p"}, {"chosen", "a"}, {"rejected", "b"}}), HasSubstr("preference data"));
}

TEST(UnreadFieldsTest, AreNamedOnce) {
  json sample = chat({{"mood", 3}});
  sample["messages"][0]["mood"] = 2;
  sample["messages"][0]["content"] = {{{"type", "text"}, {"text", "u"}, {"cached", true}}};
  sample.update({{"id", 7}, {"quality", 0}, {"text", "also"}, {"note", ""}, {"tags", json::array()}});
  EXPECT_THAT(unread(sample),
              ::testing::UnorderedElementsAre("sample quality", "sample text", "turn mood", "part cached"));
}

TEST(TurnTest, TwoSpellingsMustAgree) {
  json turn = {{"role", "user"}, {"content", "u"}, {"from", "human"}, {"value", "u"}};
  EXPECT_EQ(read({{"messages", {turn}}}), "user: u");
  turn["content"] = "v";
  EXPECT_THAT(problem({{"messages", {turn}}}), HasSubstr("turn 1 has \"from\" and \"value\" that differ"));
}

TEST(TurnTest, TheSpellingThatIsWholeIsRead) {
  json turn = {{"role", "user"}, {"content", "u"}, {"from", "human"}, {"value", nullptr}};
  EXPECT_EQ(read({{"messages", {turn}}}), "user: u");
  turn["from"] = "gpt";
  EXPECT_THAT(problem({{"messages", {turn}}}), HasSubstr("turn 1 has \"from\" and \"value\" that differ"));
  turn["from"] = "boss";
  EXPECT_THAT(problem({{"messages", {turn}}}), HasSubstr("turn 1 has the unknown role \"boss\""));
  turn["from"] = 5;
  EXPECT_THAT(problem({{"messages", {turn}}}), HasSubstr("\"from\" of turn 1 must be a string"));
}

TEST(CompletionTest, AMarkedAnswerOfThePromptIsTrained) {
  json prompt = chat({{"train", true}})["messages"];
  prompt.push_back({{"role", "user"}, {"content", "v"}});
  const json sample = {{"prompt", prompt}, {"completion", "b"}};
  EXPECT_FALSE(parse_conversation(sample.dump()).messages[1].context);
  EXPECT_TRUE(parse_conversation(sample.dump()).messages[2].context);
}

TEST(CompletionTest, ReasoningNeedsAnAssistant) {
  const json turns = {{{"role", "user"}, {"content", "u"}}};
  EXPECT_THAT(problem({{"prompt", "p"}, {"completion", turns}, {"thinking", "r"}}),
              HasSubstr("it has \"thinking\", but no turn of its completion is of the assistant"));
}

TEST(CompletionTest, ListsOfTurns) {
  const json prompt = {{{"role", "system"}, {"content", "s"}},
                       {{"role", "user"}, {"content", "u"}},
                       {{"role", "assistant"}, {"content", "a"}},
                       {{"role", "user"}, {"content", "v"}}};
  const json answer = {{{"role", "assistant"}, {"content", "b"}}};
  const Conversation conversation =
      parse_conversation(json{{"prompt", prompt}, {"completion", answer}}.dump());
  EXPECT_EQ(conversation.form, Conversation::Form::chat);
  ASSERT_EQ(conversation.messages.size(), 5U);
  EXPECT_TRUE(conversation.messages[2].context);
  EXPECT_FALSE(conversation.messages[4].context);
  EXPECT_EQ(read({{"prompt", prompt}, {"completion", "b"}}),
            read({{"prompt", prompt}, {"completion", answer}}));
  EXPECT_EQ(read({{"prompt", "u"}, {"completion", answer}}), "user: u | assistant: b");
  EXPECT_THAT(problem({{"prompt", prompt}, {"completion", json::array()}}),
              HasSubstr("\"completion\" is empty"));
  EXPECT_THAT(problem({{"prompt", prompt}, {"completion", prompt}}), HasSubstr("turn 5 is a system turn"));
  EXPECT_THAT(problem({{"prompt", 5}, {"completion", "c"}}),
              HasSubstr("\"prompt\" must be a string, not number"));
}

TEST(SampleShapeTest, TurnsWithoutASampleAroundThem) {
  const json turns = chat()["messages"];
  EXPECT_THAT(problem(turns[0]), HasSubstr("it is a turn, not a sample; put the list of turns"));
  EXPECT_THAT(problem(turns), HasSubstr("not a list of turns; put the list"));
  EXPECT_THAT(problem({{"from", "human"}, {"value", "x"}}), HasSubstr("it is a turn"));
  EXPECT_THAT(problem({{"question", "x"}, {"reasoning", "r"}}), HasSubstr("it has none of the fields"));
}

}  // namespace
}  // namespace autoglm
