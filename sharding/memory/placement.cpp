#include "sharding/memory/placement.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"

namespace autoglm {

Placement::Placement(std::int64_t capacity, std::int64_t alignment)
    : capacity_(capacity / alignment * alignment), alignment_(alignment) {
  AUTOGLM_CHECK(alignment > 0 && (alignment & (alignment - 1)) == 0, "alignment {}", alignment);
  if (capacity_ > 0) insert_free(0, capacity_);
}

void Placement::insert_free(std::int64_t offset, std::int64_t bytes) {
  free_by_offset_.emplace(offset, bytes);
  free_by_size_.emplace(bytes, offset);
}

void Placement::erase_free(std::map<std::int64_t, std::int64_t>::iterator block) {
  free_by_size_.erase({block->second, block->first});
  free_by_offset_.erase(block);
}

std::int64_t Placement::allocate(std::int64_t bytes, MemoryCategory category) {
  AUTOGLM_CHECK(bytes > 0, "{} bytes", bytes);
  const std::int64_t size = rounded(bytes);
  const auto fit = find_fit(size);
  if (fit == free_by_size_.end()) return -1;
  const auto [free_bytes, offset] = *fit;
  erase_free(free_by_offset_.find(offset));
  if (free_bytes > size) insert_free(offset + size, free_bytes - size);
  used_.emplace(offset, Block{size, category});
  use_.total += size;
  use_.by_category[static_cast<std::size_t>(category)] += size;
  if (use_.total > peak_.total) peak_ = use_;
  extent_ = std::max(extent_, offset + size);
  ++num_allocations_;
  return offset;
}

// What reaches the end is as large as the capacity makes it: taken by its size, it would lay the same calls
// out otherwise under another capacity.
Placement::FreeBySize::const_iterator Placement::find_fit(std::int64_t bytes) const {
  const auto best = free_by_size_.lower_bound({bytes, 0});
  if (best == free_by_size_.end() || best->second + best->first != capacity_) return best;
  const auto next = std::next(best);
  return next == free_by_size_.end() ? best : next;
}

std::int64_t Placement::next_offset(std::int64_t bytes) const {
  const auto fit = find_fit(rounded(bytes));
  return fit == free_by_size_.end() ? -1 : fit->second;
}

std::int64_t Placement::release(std::int64_t offset) {
  const auto used = used_.find(offset);
  AUTOGLM_CHECK(used != used_.end(), "no allocation at offset {}", offset);
  const Block block = used->second;
  used_.erase(used);
  use_.total -= block.bytes;
  use_.by_category[static_cast<std::size_t>(block.category)] -= block.bytes;

  std::int64_t start = offset;
  std::int64_t end = std::min(offset + block.bytes, capacity_);
  if (start >= end) return block.bytes;
  const auto after = free_by_offset_.find(end);
  if (after != free_by_offset_.end()) {
    end += after->second;
    erase_free(after);
  }
  auto before = free_by_offset_.lower_bound(start);
  if (before != free_by_offset_.begin()) {
    before = std::prev(before);
    if (before->first + before->second == start) {
      start = before->first;
      erase_free(before);
    }
  }
  insert_free(start, end - start);
  return block.bytes;
}

std::int64_t Placement::largest_free_block() const {
  return free_by_size_.empty() ? 0 : free_by_size_.rbegin()->first;
}

void Placement::reset_peak() {
  peak_ = use_;
  extent_ = used_.empty() ? 0 : used_.rbegin()->first + used_.rbegin()->second.bytes;
}

void Placement::set_capacity(std::int64_t capacity) {
  const std::int64_t rounded = capacity / alignment_ * alignment_;
  capacity_ = rounded;
  free_by_offset_.clear();
  free_by_size_.clear();
  std::int64_t cursor = 0;
  for (const auto& [offset, block] : used_) {
    if (cursor < std::min(offset, rounded)) insert_free(cursor, std::min(offset, rounded) - cursor);
    cursor = offset + block.bytes;
  }
  if (cursor < rounded) insert_free(cursor, rounded - cursor);
}

}  // namespace autoglm
