#include "trainer/data/sample_fields.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace autoglm {
namespace {

using nlohmann::json;
using enum FieldPlace;
using enum FieldUse;
using When = FieldRule::When;

constexpr std::string_view kTools = "tool calls are not supported; take such samples out of the file";
constexpr std::string_view kMedia = "only text can be trained on; take such samples out of the file";
constexpr std::string_view kPreference =
    "preference data is not trained on; keep the good answers only, each as an assistant turn, and take the "
    "field away";
constexpr std::string_view kMask =
    "whether it leaves out or takes in is not known; say which turns are not trained with \"train\": false";
constexpr std::string_view kPartMask =
    "a part of a turn cannot be left out; set it on the turn, or make the part a turn of its own";
constexpr std::string_view kDetail =
    "a turn is trained as a whole or not at all; make each stretch a sample of its own, with what comes "
    "before it as its prompt";
constexpr std::string_view kTrained =
    "0 or false leaves it out of the loss, 1 or true trains an assistant turn";
constexpr std::string_view kTrainedSample =
    "0 or false leaves all turns out of the loss, 1 or true says nothing; or a list of one per turn";
constexpr std::string_view kReasoning =
    "what the assistant thinks before it answers, where the template has a place for it, else refused";
constexpr std::string_view kNoReasoning =
    "reasoning belongs to a turn; put it into the content as the model is to write it, or take the field "
    "away";
constexpr std::string_view kName = "a name or number of its own";

constexpr std::array kRules{
    FieldRule{sample, "messages", kMessagesForm, honoured, "the turns"},
    FieldRule{sample, "conversations", kConversationsForm, honoured, "the turns"},
    FieldRule{sample, "instruction", kAlpacaForm, honoured, "the user turn"},
    FieldRule{sample, "input", kAlpacaForm, honoured, "what follows in the user turn, on a new line"},
    FieldRule{sample, "output", kAlpacaForm, honoured, "the assistant turn"},
    FieldRule{sample, "history", kAlpacaForm, honoured, "earlier turns: [[question, answer], ...]"},
    FieldRule{sample, "prompt", kCompletionForm, honoured, "a text or a list of turns; not trained"},
    FieldRule{sample, "completion", kCompletionForm, honoured, "a text or a list of turns; trained"},
    FieldRule{sample, "text", kTextForm, honoured, "running text"},
    FieldRule{sample, "system", kTurnForms | kAnswerForms, honoured, "the system turn"},
    FieldRule{sample, "system_prompt", kTurnForms | kAnswerForms, honoured, "the system turn"},
    FieldRule{sample, "weight", kEveryForm, honoured, kTrainedSample},
    FieldRule{sample, "train", kEveryForm, honoured, kTrainedSample},
    FieldRule{sample, "training", kEveryForm, honoured, kTrainedSample},
    FieldRule{sample, "trainable", kEveryForm, honoured, kTrainedSample},
    FieldRule{sample, "loss", kEveryForm, honoured, kTrainedSample},
    FieldRule{sample, "loss_mask", kEveryForm, honoured, kTrainedSample},
    FieldRule{sample, "loss_weight", kEveryForm, honoured, kTrainedSample},
    FieldRule{sample, "reasoning_content", kAnswerForms, honoured, kReasoning},
    FieldRule{sample, "reasoning", kAnswerForms, honoured, kReasoning},
    FieldRule{sample, "thinking", kAnswerForms, honoured, kReasoning},
    FieldRule{sample, "system", kTextForm, refused, "running text has no turns; put it into \"text\""},
    FieldRule{sample, "system_prompt", kTextForm, refused, "running text has no turns; put it into \"text\""},
    FieldRule{sample, "reasoning_content", kTurnForms | kTextForm, refused, kNoReasoning},
    FieldRule{sample, "reasoning", kTurnForms | kTextForm, refused, kNoReasoning},
    FieldRule{sample, "thinking", kTurnForms | kTextForm, refused, kNoReasoning},
    FieldRule{sample, "tools", kEveryForm, refused, kTools},
    FieldRule{sample, "functions", kEveryForm, refused, kTools},
    FieldRule{sample, "documents", kEveryForm, refused,
              "templates are given no documents; put them into a turn"},
    FieldRule{sample, "chat_template_kwargs", kEveryForm, refused,
              "templates are given no settings; take the field away"},
    FieldRule{sample, "images", kEveryForm, refused, kMedia},
    FieldRule{sample, "image", kEveryForm, refused, kMedia},
    FieldRule{sample, "videos", kEveryForm, refused, kMedia},
    FieldRule{sample, "video", kEveryForm, refused, kMedia},
    FieldRule{sample, "audios", kEveryForm, refused, kMedia},
    FieldRule{sample, "audio", kEveryForm, refused, kMedia},
    FieldRule{
        sample, "label", kEveryForm, refused,
        "the answer is a bad one, as in preference data, which is not trained on; take such samples out of "
        "the file",
        When::is_false},
    FieldRule{
        sample, "kto_tag", kEveryForm, refused,
        "the answer is a bad one, as in preference data, which is not trained on; take such samples out of "
        "the file",
        When::is_false},
    FieldRule{sample, "chosen", kEveryForm, refused, kPreference},
    FieldRule{sample, "rejected", kEveryForm, refused, kPreference},
    FieldRule{sample, "rejected_response", kEveryForm, refused, kPreference},
    FieldRule{sample, "rejected_messages", kEveryForm, refused, kPreference},
    FieldRule{sample, "negative_messages", kEveryForm, refused, kPreference},
    FieldRule{sample, "mask", kEveryForm, refused, kMask, When::given},
    FieldRule{sample, "masked", kEveryForm, refused, kMask},
    FieldRule{sample, "ignore", kEveryForm, refused, kMask},
    FieldRule{sample, "exclude", kEveryForm, refused, kMask},
    FieldRule{sample, "skip", kEveryForm, refused, kMask},
    FieldRule{sample, "id", kEveryForm, harmless, kName},
    FieldRule{sample, "idx", kEveryForm, harmless, kName},
    FieldRule{sample, "index", kEveryForm, harmless, kName},
    FieldRule{sample, "uuid", kEveryForm, harmless, kName},
    FieldRule{sample, "prompt_id", kEveryForm, harmless, kName},
    FieldRule{sample, "conversation_id", kEveryForm, harmless, kName},

    FieldRule{turn, "role", kEveryForm, honoured,
              "system, user or human, assistant or gpt, chatgpt, model, bot"},
    FieldRule{turn, "content", kEveryForm, honoured, "a text, or a list of parts"},
    FieldRule{turn, "from", kEveryForm, honoured, "as \"role\", with \"value\" for the content"},
    FieldRule{turn, "value", kEveryForm, honoured, "as \"content\", with \"from\" for the role"},
    FieldRule{turn, "weight", kEveryForm, honoured, kTrained},
    FieldRule{turn, "train", kEveryForm, honoured, kTrained},
    FieldRule{turn, "training", kEveryForm, honoured, kTrained},
    FieldRule{turn, "trainable", kEveryForm, honoured, kTrained},
    FieldRule{turn, "loss", kEveryForm, honoured, kTrained},
    FieldRule{turn, "loss_mask", kEveryForm, honoured, kTrained},
    FieldRule{turn, "loss_weight", kEveryForm, honoured, kTrained},
    FieldRule{turn, "reasoning_content", kEveryForm, honoured, kReasoning},
    FieldRule{turn, "reasoning", kEveryForm, honoured, kReasoning},
    FieldRule{turn, "thinking", kEveryForm, honoured, kReasoning},
    FieldRule{turn, "tool_calls", kEveryForm, refused, kTools},
    FieldRule{turn, "tool_call_id", kEveryForm, refused, kTools},
    FieldRule{turn, "function_call", kEveryForm, refused, kTools},
    FieldRule{turn, "tools", kEveryForm, refused, kTools},
    FieldRule{turn, "images", kEveryForm, refused, kMedia},
    FieldRule{turn, "image", kEveryForm, refused, kMedia},
    FieldRule{turn, "videos", kEveryForm, refused, kMedia},
    FieldRule{turn, "video", kEveryForm, refused, kMedia},
    FieldRule{turn, "audios", kEveryForm, refused, kMedia},
    FieldRule{turn, "audio", kEveryForm, refused, kMedia},
    FieldRule{
        turn, "label", kEveryForm, refused,
        "the answer is a bad one; leave the turn out of the loss with \"train\": false, or take the sample "
        "out of the file",
        When::is_false},
    FieldRule{turn, "rejected", kEveryForm, refused, kPreference},
    FieldRule{turn, "train_detail", kEveryForm, refused, kDetail},
    FieldRule{turn, "training_detail", kEveryForm, refused, kDetail},
    FieldRule{turn, "mask", kEveryForm, refused, kMask, When::given},
    FieldRule{turn, "masked", kEveryForm, refused, kMask},
    FieldRule{turn, "ignore", kEveryForm, refused, kMask},
    FieldRule{turn, "exclude", kEveryForm, refused, kMask},
    FieldRule{turn, "skip", kEveryForm, refused, kMask},
    FieldRule{turn, "id", kEveryForm, harmless, kName},
    FieldRule{turn, "idx", kEveryForm, harmless, kName},
    FieldRule{turn, "index", kEveryForm, harmless, kName},

    FieldRule{part, "type", kEveryForm, honoured, "\"text\", which it is without it"},
    FieldRule{part, "text", kEveryForm, honoured, "joined with the other parts as it is"},
    FieldRule{part, "weight", kEveryForm, refused, kPartMask, When::given},
    FieldRule{part, "train", kEveryForm, refused, kPartMask, When::given},
    FieldRule{part, "training", kEveryForm, refused, kPartMask, When::given},
    FieldRule{part, "trainable", kEveryForm, refused, kPartMask, When::given},
    FieldRule{part, "loss", kEveryForm, refused, kPartMask, When::given},
    FieldRule{part, "loss_mask", kEveryForm, refused, kPartMask, When::given},
    FieldRule{part, "loss_weight", kEveryForm, refused, kPartMask, When::given},
    FieldRule{part, "image", kEveryForm, refused, kMedia},
    FieldRule{part, "image_url", kEveryForm, refused, kMedia},
    FieldRule{part, "video", kEveryForm, refused, kMedia},
    FieldRule{part, "audio", kEveryForm, refused, kMedia},
    FieldRule{part, "input_audio", kEveryForm, refused, kMedia},
};

const FieldRule* rule_of(FieldPlace place, std::string_view name, SampleForm form) {
  const auto rule = std::find_if(kRules.begin(), kRules.end(), [&](const FieldRule& one) {
    return one.place == place && one.name == name && (one.forms & form) != 0;
  });
  return rule == kRules.end() ? nullptr : &*rule;
}

bool refuses(const FieldRule& rule, const json& value) {
  if (rule.when == When::is_false) return value == false;
  return rule.when == When::given || value != false;
}

std::string forms_in_words(unsigned forms) {
  if (forms == kEveryForm) return "every";
  constexpr std::array kNames{"messages", "conversations", "alpaca", "prompt/completion", "text"};
  std::string words;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if ((forms >> i & 1U) != 0) words += (words.empty() ? "" : ", ") + std::string(kNames[i]);
  }
  return words;
}

std::string_view use_in_words(const FieldRule& rule) {
  if (rule.use == honoured) return "honoured";
  if (rule.use == harmless) return "harmless";
  if (rule.when == When::given) return "refused whatever it holds";
  return rule.when == When::is_false ? "refused where it is false" : "refused";
}

// Whether two rules say the same, so that one row of the table holds both.
bool is_like(const FieldRule& one, const FieldRule& other) {
  return one.place == other.place && one.forms == other.forms && one.use == other.use &&
         one.words == other.words && one.when == other.when;
}

}  // namespace

std::span<const FieldRule> field_rules() {
  return kRules;
}

std::string field_rules_as_markdown() {
  std::string text = "| of | fields | in the form | use | |\n|---|---|---|---|---|\n";
  for (auto first = kRules.begin(), rule = first; first != kRules.end(); first = rule) {
    std::string names;
    for (; rule != kRules.end() && is_like(*rule, *first); ++rule)
      names += fmt::format("{}`{}`", names.empty() ? "" : ", ", rule->name);
    text += fmt::format("| {} | {} | {} | {} | {} |\n", to_string(first->place), names,
                        first->place == sample ? forms_in_words(first->forms) : "", use_in_words(*first),
                        first->words);
  }
  return text;
}

bool is_unset(const json& value) {
  if (value.is_null()) return true;
  if (value.is_object()) return std::all_of(value.begin(), value.end(), is_unset);
  if (value.is_array())
    return std::all_of(value.begin(), value.end(), [](const json& one) { return one.is_null(); });
  if (!value.is_string()) return false;
  std::string text = value.get<std::string>();
  std::erase_if(text, [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; });
  return text.empty() || text == "[]" || text == "{}" || text == "null";
}

bool has_field(const json& object, std::string_view name) {
  const auto field = object.find(name);
  return field != object.end() && !field->is_null();
}

void check_fields(const json& object, FieldPlace place, SampleForm form, const std::string& where,
                  std::vector<UnreadField>& unread) {
  for (const auto& [name, value] : object.items()) {
    const FieldRule* rule = rule_of(place, name, form);
    const bool given = rule && rule->use == refused && rule->when == When::given;
    if (given ? value.is_null() : is_unset(value)) continue;
    if (rule && rule->use == refused && refuses(*rule, value)) {
      throw SampleError(fmt::format("{} has \"{}\"{}; {}", where, name,
                                    value.is_boolean() ? fmt::format(": {}", value.get<bool>()) : "",
                                    rule->words));
    }
    const bool known = rule && (rule->use != refused || value.is_boolean());
    if (known) continue;
    const UnreadField field{place, name};
    if (std::find(unread.begin(), unread.end(), field) == unread.end()) unread.push_back(field);
  }
}

}  // namespace autoglm
