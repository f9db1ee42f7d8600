#include "sharding/memory/locked_mapping.h"

#include "sharding/memory/host_memory.h"

namespace autoglm {

LockedMapping::LockedMapping() : HostMapping(pool_addresses(host_addresses())) {}

std::string LockedMapping::take(std::int64_t offset, std::int64_t bytes) {
  HostMapping::take(offset, bytes);
  const std::int64_t whole = (bytes + kPage - 1) / kPage * kPage;
  const std::string refusal = lock(base_ + offset, whole);
  if (refusal.empty()) return {};
  HostMapping::give_back(offset, whole);
  return "locking the pages was refused: " + refusal;
}

void LockedMapping::give_back(std::int64_t offset, std::int64_t bytes) {
  unlock(base_ + offset, bytes);
  HostMapping::give_back(offset, bytes);
}

}  // namespace autoglm
