// Greedy answers, token by token, with a cache of keys and values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace autoglm {

class Engine;

// Greedy continuation of `prompt`: at most `max_new_tokens` ids, ending before the first of `stop_ids`.
// prompt + new tokens must fit the engine's max_positions. Collective: all ranks give the same prompt and get
// the same answer.
std::vector<std::int32_t> generate(Engine& engine, std::span<const std::int32_t> prompt,
                                   std::int64_t max_new_tokens, std::span<const std::int32_t> stop_ids);

}  // namespace autoglm
