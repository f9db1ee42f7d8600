// What every process holds of every card, so that ranks on one card see each other's memory.
#pragma once

#include <cstdint>

namespace cuda_on_host {

constexpr int kMostCards = 16;

// Adds to what this process holds of the card; false, and nothing is added, when the card has no room.
bool charge(int card, std::int64_t bytes);

// Held by all processes that live.
std::int64_t used_on(int card);

}  // namespace cuda_on_host
