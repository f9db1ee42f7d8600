#include "sharding/memory/arena.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/units.h"
#include "sharding/memory/out_of_memory.h"

namespace autoglm {

Arena::Arena(std::unique_ptr<Backing> backing, std::int64_t limit, std::int64_t alignment, std::string where)
    : backing_(std::move(backing)),
      placement_(std::min(limit, backing_->capacity()), alignment),
      where_(std::move(where)) {}

void Arena::throw_out_of_memory(std::int64_t bytes, std::string_view reason) const {
  throw OutOfMemory(
      fmt::format(
          "out of memory on {}: {} for {} do not fit; {} of {} are in use, the largest free block has {}{}{}",
          where_, format_bytes(bytes), category_name(current_category()),
          format_bytes(placement_.use().total), format_bytes(placement_.capacity()),
          format_bytes(placement_.largest_free_block()), reason.empty() ? "" : "; ", reason),
      bytes, placement_.use());
}

char* Arena::allocate(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (allocations_to_failure_ > 0 && --allocations_to_failure_ == 0) throw_out_of_memory(bytes, "injected");
  const std::int64_t offset = placement_.next_offset(bytes);
  if (offset < 0) throw_out_of_memory(bytes);
  if (const std::string refusal = backing_->take(offset, bytes); !refusal.empty()) {
    // From now on only what there really is can be handed out, so that smaller requests still find a place.
    placement_.set_capacity(std::min(placement_.capacity(), backing_->capacity()));
    throw_out_of_memory(bytes, refusal);
  }
  return backing_->base() + placement_.allocate(bytes, current_category());
}

void Arena::release(char* data) {
  const std::lock_guard lock(mutex_);
  const std::int64_t offset = data - backing_->base();
  backing_->give_back(offset, placement_.release(offset));
}

bool Arena::holds(const char* data) const {
  const std::lock_guard lock(mutex_);
  return backing_->base() <= data && data < backing_->base() + backing_->capacity();
}

ArenaStatistics Arena::statistics() const {
  const std::lock_guard lock(mutex_);
  return {placement_.use(), placement_.peak(), placement_.extent(), placement_.capacity(),
          placement_.num_allocations()};
}

void Arena::reset_peak() {
  const std::lock_guard lock(mutex_);
  placement_.reset_peak();
}

void Arena::set_limit(std::int64_t limit) {
  const std::lock_guard lock(mutex_);
  placement_.set_capacity(std::min(limit, backing_->capacity()));
}

void Arena::fail_allocation(std::int64_t n) {
  const std::lock_guard lock(mutex_);
  allocations_to_failure_ = n;
}

void Arena::trim() {
  const std::lock_guard lock(mutex_);
  for (const auto& [offset, bytes] : placement_.free_blocks()) backing_->trim(offset, bytes);
  backing_->trim_end(placement_.top());
}

std::int64_t Arena::backed() const {
  const std::lock_guard lock(mutex_);
  return backing_->backed(placement_.extent());
}

}  // namespace autoglm
