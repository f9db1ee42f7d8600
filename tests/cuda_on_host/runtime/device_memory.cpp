#include "tests/cuda_on_host/runtime/device_memory.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/cuda_on_host/runtime/interface.h"
#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {
namespace {

// ThreadSanitizer leaves programs little room for mappings.
#ifdef __SANITIZE_THREAD__
constexpr Address kWindow = Address{1} << 38;
#else
constexpr Address kWindow = Address{1} << 40;
#endif
constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

Address reserve_window() {
  void* at = mmap(nullptr, kWindow, PROT_NONE, kFlags, -1, 0);
  if (at != MAP_FAILED) return reinterpret_cast<Address>(at);
  std::fprintf(stderr, "cuda_on_host: no room for device addresses\n");
  std::abort();
}

struct Windows {
  Address seen = reserve_window(), real = reserve_window();
  std::atomic<Address> next{(seen + kGranularity - 1) / kGranularity * kGranularity};
};

Windows& windows() {
  static auto* windows = new Windows;
  return *windows;
}

void map_anew(Address seen, std::size_t bytes, int protection) {
  void* at = reinterpret_cast<void*>(real_address(seen));
  if (mmap(at, bytes, protection, kFlags | MAP_FIXED, -1, 0) == at) return;
  std::fprintf(stderr, "cuda_on_host: the host has no memory for %zu bytes of a card\n", bytes);
  std::abort();
}

std::mutex g_mutex;
std::map<Address, Range>& ranges() {
  static auto* ranges = new std::map<Address, Range>;
  return *ranges;
}

// The range that holds the address, or the end.
std::map<Address, Range>::iterator holder(Address at) {
  auto it = ranges().upper_bound(at);
  if (it == ranges().begin()) return ranges().end();
  --it;
  return at < it->first + it->second.bytes ? it : ranges().end();
}

}  // namespace

Address take_addresses(std::size_t bytes) {
  const std::size_t whole = (bytes + kGranularity - 1) / kGranularity * kGranularity;
  const Address begin = windows().next.fetch_add(whole + kGranularity);
  if (begin + whole <= windows().seen + kWindow) return begin;
  std::fprintf(stderr, "cuda_on_host: device addresses are used up\n");
  std::abort();
}

Address real_address(Address seen) {
  const Windows& both = windows();
  return seen - both.seen < kWindow ? seen - both.seen + both.real : seen;
}

void rebase(void* block, std::size_t bytes) {
  for (std::size_t i = 0; i + sizeof(Address) <= bytes; i += sizeof(Address)) {
    Address word = 0;
    std::memcpy(&word, static_cast<char*>(block) + i, sizeof word);
    word = real_address(word);
    std::memcpy(static_cast<char*>(block) + i, &word, sizeof word);
  }
}

void back_with_memory(Address seen, std::size_t bytes) {
  map_anew(seen, bytes, PROT_READ | PROT_WRITE);
  if (settings().fresh_nan && !settings().bytes_only) {
    std::memset(reinterpret_cast<void*>(real_address(seen)), 0xFF, bytes);
  }
}

void take_memory_away(Address seen, std::size_t bytes) {
  map_anew(seen, bytes, PROT_NONE);
}

bool add_range(Address begin, const Range& range) {
  const std::lock_guard lock(g_mutex);
  const auto next = ranges().lower_bound(begin);
  const bool free =
      holder(begin) == ranges().end() && (next == ranges().end() || next->first >= begin + range.bytes);
  if (free) ranges()[begin] = range;
  return free;
}

std::optional<Range> remove_range(Address begin) {
  const std::lock_guard lock(g_mutex);
  const auto it = ranges().find(begin);
  if (it == ranges().end()) return std::nullopt;
  const Range range = it->second;
  ranges().erase(it);
  return range;
}

std::optional<Range> find_range(const void* pointer) {
  const std::lock_guard lock(g_mutex);
  const auto it = holder(reinterpret_cast<Address>(pointer));
  if (it == ranges().end()) return std::nullopt;
  return it->second;
}

// Pieces that were mapped side by side are one.
bool covers(Address begin, std::size_t bytes, int card) {
  const std::lock_guard lock(g_mutex);
  for (Address at = begin; at < begin + bytes;) {
    const auto it = holder(at);
    if (it == ranges().end() || it->second.card == Range::kHost) return false;
    if (card >= 0 && it->second.card != card) return false;
    at = it->first + it->second.bytes;
  }
  return true;
}

}  // namespace cuda_on_host

using namespace cuda_on_host;

extern "C" {

void* cuda_on_host_view(const void* pointer) {
  return reinterpret_cast<void*>(real_address(reinterpret_cast<Address>(pointer)));
}

bool cuda_on_host_covers(const void* pointer, std::size_t bytes, int card) {
  return covers(reinterpret_cast<Address>(pointer), bytes, card);
}

}  // extern "C"
