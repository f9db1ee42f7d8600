// What is known of the fields of samples: one table from which reading, refusals, the data summary and the docs
// are made.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/data/conversation.h"

namespace autoglm {

// The forms of samples, told apart by their fields. Bits, so that a field can belong to several.
enum SampleForm : unsigned {
  kMessagesForm = 1,
  kConversationsForm = 2,
  kAlpacaForm = 4,
  kCompletionForm = 8,
  kTextForm = 16,
  kNoForm = 32,  // none of the fields that tell a form is there
  kTurnForms = kMessagesForm | kConversationsForm,
  kAnswerForms = kAlpacaForm | kCompletionForm,
  kEveryForm = 63
};

enum class FieldUse {
  honoured,  // it decides what is read or trained
  refused,   // it means something that training here would leave out
  harmless   // it means nothing for training
};

struct FieldRule {
  FieldPlace place;
  std::string_view name;
  unsigned forms;  // of the sample in which it stands
  FieldUse use;
  // Honoured, harmless: what it is. Refused: why, and the way out, as it follows the field's name in a message.
  std::string_view words;
  enum class When { set, given, is_false } when = When::set;  // refused: for which values
};

// Every field that is known. A field that is not in it, or not for the form of its sample, is not read: the data
// summary counts it.
std::span<const FieldRule> field_rules();

// The table as docs/data.md has it.
std::string field_rules_as_markdown();

// Whether a value says nothing: null, an empty text, list or object, one that holds nothing but null, and such a
// one written as text ("[]").
bool is_unset(const nlohmann::json& value);

// Whether the field is there and not null. (Files that were put together from several have every column in every
// row.)
bool has_field(const nlohmann::json& object, std::string_view name);

// Goes through all fields of an object: refuses what is to be refused (throws SampleError that names the field
// and `where`, such as "turn 2"), and adds to `unread` what nobody reads.
void check_fields(const nlohmann::json& object, FieldPlace place, SampleForm form, const std::string& where,
                  std::vector<UnreadField>& unread);

}  // namespace autoglm
