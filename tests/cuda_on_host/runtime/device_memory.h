// Addresses that the program sees, the memory behind them, and what is known of every range.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace cuda_on_host {

using Address = std::uintptr_t;

struct Range {
  static constexpr int kHost = -1;  // page-locked memory

  std::size_t bytes = 0;
  int card = kHost;
  bool owned = false;  // by cudaMalloc or cudaMallocHost, else mapped or registered
};

constexpr std::size_t kGranularity = std::size_t{2} << 20;

// Fresh addresses with a hole behind, so that running over the end faults.
Address take_addresses(std::size_t bytes);

// Where the memory of a device address lies; any other address is itself.
Address real_address(Address seen);

// Rebases every word of an argument block that is a device address.
void rebase(void* block, std::size_t bytes);

// Memory behind addresses comes filled with NaNs, and goes.
void back_with_memory(Address seen, std::size_t bytes);
void take_memory_away(Address seen, std::size_t bytes);

// Pages of the host that hold nothing, all in the same little memory; and ordinary fresh ones in their place.
void share_pages(void* pointer, std::size_t bytes);
void own_pages(void* pointer, std::size_t bytes);

// What is known of ranges. add() is false where one lies already.
bool add_range(Address begin, const Range& range);
std::optional<Range> remove_range(Address begin);
std::optional<Range> find_range(const void* pointer);
bool covers(Address begin, std::size_t bytes, int card);

}  // namespace cuda_on_host
