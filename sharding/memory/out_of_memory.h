// Thrown when an allocation does not fit: what a GPU would throw.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "sharding/memory/statistics.h"

namespace autoglm {

class OutOfMemory : public std::runtime_error {
 public:
  OutOfMemory(const std::string& message, std::int64_t requested, MemoryUse use)
      : std::runtime_error(message), requested_(requested), use_(use) {}
  std::int64_t requested() const { return requested_; }
  const MemoryUse& use() const { return use_; }

 private:
  std::int64_t requested_;
  MemoryUse use_;
};

}  // namespace autoglm
