// What memory is used for, and what arenas say of it.
#pragma once

#include <array>
#include <cstdint>

#include "sharding/memory/category.h"

namespace autoglm {

// Bytes in use, in total and by category.
struct MemoryUse {
  std::int64_t total = 0;
  std::array<std::int64_t, kNumMemoryCategories> by_category{};

  std::int64_t operator[](MemoryCategory category) const {
    return by_category[static_cast<std::size_t>(category)];
  }
};

// What an arena reports. Bytes are after rounding to its alignment.
struct ArenaStatistics {
  MemoryUse use;                     // now
  MemoryUse peak;                    // at the moment of the largest total since reset_peak()
  std::int64_t extent = 0;           // highest byte used since reset_peak(): what a limit must hold
  std::int64_t limit = 0;            // bytes
  std::int64_t num_allocations = 0;  // since the start
};

// Both pools at once.
struct MemoryStatistics {
  ArenaStatistics device;
  ArenaStatistics host;
};

}  // namespace autoglm
