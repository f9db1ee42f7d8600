// Where allocations lie inside one address range: bookkeeping only, no memory.
//
// The same object places tensors in a real arena and in a rehearsal. It is deterministic: the same
// sequence of calls gives the same offsets.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "sharding/memory/statistics.h"

namespace autoglm {

class Placement {
 public:
  // A range of `capacity` bytes; sizes are rounded up to `alignment`, a power of two.
  Placement(std::int64_t capacity, std::int64_t alignment);

  // Best fit: the smallest free block that holds `bytes` (the lowest among equals), and the one at the end of
  // the range only when no other does: so offsets do not depend on the capacity, as long as it is enough.
  // Returns the offset, or -1 when no block is large enough. `bytes` > 0.
  std::int64_t allocate(std::int64_t bytes, MemoryCategory category);

  // What allocate() would return now.
  std::int64_t next_offset(std::int64_t bytes) const;

  // Frees what allocate() returned `offset` for, and returns its size after rounding. Free neighbours are
  // joined.
  std::int64_t release(std::int64_t offset);

  // Bytes in use now, after rounding.
  const MemoryUse& use() const { return use_; }

  // Largest use().total since the last reset_peak(), and what it consisted of.
  const MemoryUse& peak() const { return peak_; }

  // One above the highest byte that was ever part of an allocation since the last reset_peak() (bytes
  // still in use then count).
  std::int64_t extent() const { return extent_; }

  // One above the highest byte in use now.
  std::int64_t top() const {
    return used_.empty() ? 0 : used_.rbegin()->first + used_.rbegin()->second.bytes;
  }

  std::int64_t largest_free_block() const;

  // Free blocks as offset and size, in order of their offsets.
  const std::map<std::int64_t, std::int64_t>& free_blocks() const { return free_by_offset_; }
  std::int64_t capacity() const { return capacity_; }
  std::int64_t num_allocations() const { return num_allocations_; }

  // Makes the present use the peak, and the present top the extent.
  void reset_peak();

  // Changes the capacity. Bytes in use beyond the new end stay valid; nothing new is placed there.
  void set_capacity(std::int64_t capacity);

 private:
  struct Block {
    std::int64_t bytes;
    MemoryCategory category;
  };
  using FreeBySize = std::set<std::pair<std::int64_t, std::int64_t>>;

  std::int64_t rounded(std::int64_t bytes) const {
    return (bytes + alignment_ - 1) / alignment_ * alignment_;
  }
  FreeBySize::const_iterator find_fit(std::int64_t bytes) const;
  void insert_free(std::int64_t offset, std::int64_t bytes);
  void erase_free(std::map<std::int64_t, std::int64_t>::iterator block);

  std::int64_t capacity_;
  std::int64_t alignment_;
  std::map<std::int64_t, std::int64_t> free_by_offset_;
  FreeBySize free_by_size_;
  std::map<std::int64_t, Block> used_;
  MemoryUse use_;
  MemoryUse peak_;
  std::int64_t extent_ = 0;
  std::int64_t num_allocations_ = 0;
};

}  // namespace autoglm
