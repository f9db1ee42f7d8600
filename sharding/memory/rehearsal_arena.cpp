#include "sharding/memory/rehearsal_arena.h"

#include <c10/core/Allocator.h>

#include <memory>

#include "base/error.h"
#include "sharding/memory/category.h"

namespace autoglm {
namespace {

RehearsalArena* running = nullptr;

class MetaAllocator final : public at::Allocator {
 public:
  at::DataPtr allocate(std::size_t bytes) override {
    char* address = nullptr;
    if (running != nullptr && bytes > 0) {
      Arena& arena = current_pool() == MemoryPool::host ? running->host() : running->device();
      address = arena.allocate(static_cast<std::int64_t>(bytes));
    }
    return {nullptr, address, &release, at::Device(at::kMeta)};
  }
  void copy_data(void*, const void*, std::size_t) const override {}

 private:
  static void release(void* data) {
    if (running == nullptr) return;
    char* const address = static_cast<char*>(data);
    for (Arena* const arena : {&running->device(), &running->host()}) {
      if (arena->holds(address)) arena->release(address);
    }
  }
};

constexpr std::int64_t kLargestRange = std::int64_t{1} << 50;

// Addresses that nobody touches. Every range is another one: a tensor that outlives its rehearsal must not be
// released into the next.
std::unique_ptr<Backing> next_range() {
  static std::uint64_t first = 0;
  first += kLargestRange;
  if (first + kLargestRange < first) first = kLargestRange;
  return std::make_unique<Backing>(reinterpret_cast<char*>(first), kLargestRange);
}

}  // namespace

RehearsalArena::RehearsalArena(std::int64_t limit, std::int64_t alignment)
    : device_(next_range(), limit, alignment, "the rehearsed device"),
      host_(next_range(), kLargestRange / 2,
            alignment == Arena::kCudaAlignment ? Arena::kLockedAlignment : alignment,
            "the rehearsed device") {
  AUTOGLM_CHECK(running == nullptr, "a rehearsal is running already");
  // LibTorch keeps a plain pointer to its allocators, so this one is never destroyed.
  static at::Allocator* const allocator = std::make_unique<MetaAllocator>().release();
  constexpr std::uint8_t kPriority = 100;
  c10::SetAllocator(c10::kMeta, allocator, kPriority);
  running = this;
}

RehearsalArena::~RehearsalArena() {
  running = nullptr;
}

void RehearsalArena::reset_peak() {
  device_.reset_peak();
  host_.reset_peak();
}

}  // namespace autoglm
