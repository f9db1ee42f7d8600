#include "sharding/memory/host_mapping.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/units.h"
#include "sharding/host/control_groups.h"
#include "sharding/memory/host_memory.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)0)
#endif

namespace autoglm {

namespace {

std::string way_to_more_addresses() {
  if (const std::optional<AddressLimit> limit = address_limit())
    return fmt::format("raise the limit set with {}", limit->name);
  if (read_kernel_line("/proc/sys/vm/overcommit_memory").value_or("") == "2")
    return "this host hands out no more memory than it has: set vm.overcommit_memory to 0 or 1";
  return "the system has a limit of its own on the addresses of a process";
}

}  // namespace

HostMapping::HostMapping(std::int64_t capacity) : Backing(nullptr, capacity) {
  void* base = mmap(nullptr, static_cast<std::size_t>(capacity), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    fail(ExitCode::unavailable, "cannot reserve {} of address space: {}; {}", format_bytes(capacity),
         std::strerror(errno), way_to_more_addresses());
  }
  base_ = static_cast<char*>(base);
  madvise(base_, static_cast<std::size_t>(capacity), MADV_HUGEPAGE);
  // Poison takes an eighth of what it covers: enough for the tests that run under AddressSanitizer.
  [[maybe_unused]] constexpr std::int64_t kPoisoned = std::int64_t{2} << 30;
  ASAN_POISON_MEMORY_REGION(base_, static_cast<std::size_t>(std::min(capacity, kPoisoned)));
}

std::string HostMapping::take([[maybe_unused]] std::int64_t offset, [[maybe_unused]] std::int64_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(base_ + offset, static_cast<std::size_t>(bytes));
  return {};
}

void HostMapping::give_back([[maybe_unused]] std::int64_t offset, [[maybe_unused]] std::int64_t bytes) {
  ASAN_POISON_MEMORY_REGION(base_ + offset, static_cast<std::size_t>(bytes));
}

// madvise() of what has no pages does nothing.
void HostMapping::trim(std::int64_t offset, std::int64_t bytes) {
  const std::int64_t begin = (offset + kPage - 1) / kPage * kPage, end = (offset + bytes) / kPage * kPage;
  if (begin < end) madvise(base_ + begin, static_cast<std::size_t>(end - begin), MADV_DONTNEED);
}

}  // namespace autoglm
