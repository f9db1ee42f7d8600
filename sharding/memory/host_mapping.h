// Addresses of the host whose pages are touched only when used; freed ranges keep theirs for the next tensor.
#pragma once

#include <cstdint>
#include <string>

#include "sharding/memory/backing.h"

namespace autoglm {

// One private mapping for the life of the process. Under AddressSanitizer what is not handed out is poisoned.
class HostMapping : public Backing {
 public:
  // Throws Error(unavailable) when the system has not so many addresses.
  explicit HostMapping(std::int64_t capacity);

  std::string take(std::int64_t offset, std::int64_t bytes) override;
  void give_back(std::int64_t offset, std::int64_t bytes) override;
  void trim(std::int64_t offset, std::int64_t bytes) override;

 protected:
  static constexpr std::int64_t kPage = 4096;
};

}  // namespace autoglm
