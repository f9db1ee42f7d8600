#include "sharding/memory/device_arena.h"

#include <algorithm>
#include <utility>

#include "sharding/memory/arena_internal.h"

namespace autoglm {

DeviceArena::DeviceArena(std::unique_ptr<GrowingMemory> memory, std::int64_t limit, std::int64_t alignment,
                         const char* where)
    : memory_(std::move(memory)),
      placement_(std::min(limit, memory_->capacity()), alignment),
      where_(where) {}

char* DeviceArena::allocate(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (allocations_to_failure_ > 0 && --allocations_to_failure_ == 0)
    throw_out_of_memory(placement_, bytes, where_, "injected");
  const std::int64_t end = placement_.end_of_next(bytes);
  if (end < 0) throw_out_of_memory(placement_, bytes, where_, "");
  if (!memory_->extend(end)) {
    // From now on only what there really is can be handed out, so that smaller requests still find a place.
    placement_.set_capacity(std::min(placement_.capacity(), memory_->backed()));
    throw_out_of_memory(placement_, bytes, where_, "the device gives no more");
  }
  return memory_->base() + placement_.allocate(bytes, current_category());
}

void DeviceArena::release(char* data) {
  const std::lock_guard lock(mutex_);
  placement_.release(data - memory_->base());
}

ArenaStatistics DeviceArena::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_of(placement_);
}

void DeviceArena::reset_peak() {
  const std::lock_guard lock(mutex_);
  placement_.reset_peak();
}

void DeviceArena::set_limit(std::int64_t limit) {
  const std::lock_guard lock(mutex_);
  placement_.set_capacity(std::min(limit, memory_->capacity()));
}

void DeviceArena::fail_allocation(std::int64_t n) {
  const std::lock_guard lock(mutex_);
  allocations_to_failure_ = n;
}

std::int64_t DeviceArena::backed() const {
  const std::lock_guard lock(mutex_);
  return memory_->backed();
}

}  // namespace autoglm
