// Reading one turn of a conversation, and what says whether it is trained.
#pragma once

#include <fmt/core.h>

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "trainer/data/conversation.h"
#include "trainer/data/sample_fields.h"

namespace autoglm {

// Throws SampleError.
template <typename... Args>
[[noreturn]] void refuse_sample(fmt::format_string<Args...> format, Args&&... args) {
  throw SampleError(fmt::format(format, std::forward<Args>(args)...));
}

// The string that `value` must be; `what` names it in the refusal.
std::string text_of(const nlohmann::json& value, const std::string& what);

// A field that must be there (null is left to who reads it); `where` names the object.
const nlohmann::json& require_field(const nlohmann::json& object, const char* key, const std::string& where);

// The turn with this index (from 0), its fields checked; adds those that nobody reads.
Message read_turn(const nlohmann::json& turn, std::size_t index, SampleForm form,
                  std::vector<UnreadField>& unread);

// "reasoning_content", "reasoning" or "thinking" of the object, into an assistant's message. `where` is "turn 2",
// or "it" for the sample itself.
void read_reasoning(const nlohmann::json& object, const std::string& where, Message& message);

// "weight", "train", "loss_mask" and the like of the whole sample: one value for all turns, or a list of one per
// turn. `system_apart`: the first message is the sample's "system", for which a list may have an entry or not.
void apply_sample_masks(const nlohmann::json& sample, bool system_apart, std::vector<Message>& messages);

}  // namespace autoglm
