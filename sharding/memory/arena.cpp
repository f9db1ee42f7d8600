#include "sharding/memory/arena.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <cstring>
#include <mutex>

#include "base/error.h"
#include "base/units.h"
#include "sharding/memory/arena_internal.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)0)
#endif

namespace autoglm {

void throw_out_of_memory(const Placement& placement, std::int64_t bytes, std::string_view where,
                         std::string_view reason) {
  throw OutOfMemory(
      fmt::format(
          "out of memory on {}: {} for {} do not fit; {} of {} are in use, the largest free block has {}{}{}",
          where, format_bytes(bytes), category_name(current_category()), format_bytes(placement.use().total),
          format_bytes(placement.capacity()), format_bytes(placement.largest_free_block()),
          reason.empty() ? "" : "; ", reason),
      bytes, placement.use());
}

ArenaStatistics statistics_of(const Placement& placement) {
  return {placement.use(), placement.peak(), placement.extent(), placement.capacity(),
          placement.num_allocations()};
}

namespace {

// LibTorch keeps a plain pointer to its allocators for the life of the process, also while it is torn
// down, so the arenas are never destroyed.
constexpr std::uint8_t kPriority = 100;

// One mapping of address space with its placement. With a locker, allocations are whole pages, each locked
// for itself: a copy to or from a device never crosses from one into the next.
class MappedRange {
 public:
  MappedRange(std::int64_t capacity, std::int64_t limit, std::unique_ptr<PageLocker> locker)
      : placement_(std::min(limit, capacity),
                   locker ? RehearsalArena::kLockedAlignment : RehearsalArena::kCpuAlignment),
        mapped_(capacity),
        locker_(std::move(locker)) {
    void* base = mmap(nullptr, static_cast<std::size_t>(capacity), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
      fail(ExitCode::unavailable,
           "cannot reserve {} of address space: {}; raise the limit set with ulimit -v",
           format_bytes(capacity), std::strerror(errno));
    }
    base_ = static_cast<char*>(base);
    madvise(base_, static_cast<std::size_t>(capacity), MADV_HUGEPAGE);
    // Poison takes an eighth of what it covers: enough for the tests that run under AddressSanitizer.
    [[maybe_unused]] constexpr std::int64_t kPoisoned = std::int64_t{2} << 30;
    ASAN_POISON_MEMORY_REGION(base_, static_cast<std::size_t>(std::min(capacity, kPoisoned)));
  }

  char* allocate(std::int64_t bytes, const char* where) {
    const std::int64_t offset = placement_.allocate(bytes, current_category());
    if (offset < 0) throw_out_of_memory(placement_, bytes, where);
    ASAN_UNPOISON_MEMORY_REGION(base_ + offset, static_cast<std::size_t>(bytes));
    if (locker_) lock(offset, bytes, where);
    return base_ + offset;
  }
  void release(char* data) {
    const std::int64_t bytes = placement_.release(data - base_);
    if (locker_) locker_->unlock(data, bytes);
    ASAN_POISON_MEMORY_REGION(data, static_cast<std::size_t>(bytes));
  }

  // madvise() of what has no pages does nothing.
  void trim() {
    constexpr std::int64_t kPage = 4096;
    for (const auto& [offset, bytes] : placement_.free_blocks()) {
      const std::int64_t begin = (offset + kPage - 1) / kPage * kPage, end = (offset + bytes) / kPage * kPage;
      if (begin < end) madvise(base_ + begin, static_cast<std::size_t>(end - begin), MADV_DONTNEED);
    }
  }

  bool holds(const char* data) const { return base_ <= data && data < base_ + mapped_; }
  Placement& placement() { return placement_; }
  void set_limit(std::int64_t limit) { placement_.set_capacity(std::min(limit, mapped_)); }

 private:
  void lock(std::int64_t offset, std::int64_t bytes, const char* where) {
    constexpr std::int64_t kPage = RehearsalArena::kLockedAlignment;
    const std::int64_t whole = (bytes + kPage - 1) / kPage * kPage;
    const std::string refusal = locker_->lock(base_ + offset, whole);
    if (refusal.empty()) return;
    placement_.release(offset);
    throw_out_of_memory(placement_, bytes, where, fmt::format("locking the pages was refused: {}", refusal));
  }

  Placement placement_;
  std::int64_t mapped_;
  char* base_ = nullptr;
  std::unique_ptr<PageLocker> locker_;
};

class CpuArena final : public at::Allocator {
 public:
  CpuArena(std::int64_t capacity, std::int64_t limit, std::unique_ptr<PageLocker> locker)
      : device_(capacity, limit, nullptr), host_(capacity, capacity, std::move(locker)) {}

  at::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &release, at::Device(at::kCPU)};
    const std::lock_guard lock(mutex_);
    const bool on_host = current_pool() == MemoryPool::host;
    if (!on_host && allocations_to_failure_ > 0 && --allocations_to_failure_ == 0)
      throw_out_of_memory(device_.placement(), static_cast<std::int64_t>(bytes), "the CPU (injected)");
    char* data = on_host ? host_.allocate(static_cast<std::int64_t>(bytes), "the host")
                         : device_.allocate(static_cast<std::int64_t>(bytes), "the CPU");
    return {data, data, &release, at::Device(at::kCPU)};
  }

  at::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }

  ArenaStatistics statistics(MemoryPool pool) {
    const std::lock_guard lock(mutex_);
    return statistics_of((pool == MemoryPool::host ? host_ : device_).placement());
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    device_.placement().reset_peak();
    host_.placement().reset_peak();
  }
  void trim() {
    const std::lock_guard lock(mutex_);
    device_.trim();
    host_.trim();
  }
  void set_limit(std::int64_t limit) {
    const std::lock_guard lock(mutex_);
    device_.set_limit(limit);
  }
  void fail_allocation(std::int64_t n) {
    const std::lock_guard lock(mutex_);
    allocations_to_failure_ = n;
  }

 private:
  static void release(void* data);

  void release_data(char* data) {
    const std::lock_guard lock(mutex_);
    (host_.holds(data) ? host_ : device_).release(data);
  }

  std::mutex mutex_;
  MappedRange device_;
  MappedRange host_;
  std::int64_t allocations_to_failure_ = 0;
};

CpuArena*& cpu_arena() {
  static CpuArena* arena = nullptr;
  return arena;
}

void CpuArena::release(void* data) {
  if (data != nullptr) cpu_arena()->release_data(static_cast<char*>(data));
}

class MetaArena final : public at::Allocator {
 public:
  at::DataPtr allocate(std::size_t bytes) override {
    const at::Device device(at::kMeta);
    if (!device_ || bytes == 0) return {nullptr, nullptr, &release, device};
    const bool on_host = current_pool() == MemoryPool::host;
    Placement& placement = on_host ? *host_ : *device_;
    const std::int64_t offset = placement.allocate(static_cast<std::int64_t>(bytes), current_category());
    if (offset < 0) throw_out_of_memory(placement, static_cast<std::int64_t>(bytes), "the rehearsed device");
    // The context carries the pool, offset + 1 and the rehearsal's number: a tensor that outlives its
    // rehearsal must not be released into the next one.
    const auto tag = (generation_ << kGenerationShift) | (on_host ? kHostBit : 0) |
                     static_cast<std::uint64_t>(offset / kOffsetUnit + 1);
    return {nullptr, reinterpret_cast<void*>(tag), &release, device};
  }
  void copy_data(void*, const void*, std::size_t) const override {}

  void start(std::int64_t limit, std::int64_t alignment) {
    AUTOGLM_CHECK(!device_, "a rehearsal is running already");
    generation_ = (generation_ + 1) & 0xFFFF;
    device_.emplace(limit, alignment);
    const bool locks = alignment == RehearsalArena::kCudaAlignment;
    host_.emplace(kUnlimited, locks ? RehearsalArena::kLockedAlignment : alignment);
  }
  void stop() {
    device_.reset();
    host_.reset();
  }
  Placement& device() { return *device_; }
  Placement& host() { return *host_; }

 private:
  static constexpr std::int64_t kUnlimited = std::int64_t{1} << 49;
  static constexpr int kGenerationShift = 48;
  static constexpr std::uint64_t kHostBit = std::uint64_t{1} << 47;
  static constexpr std::int64_t kOffsetUnit = 8;

  static void release(void* context);

  void release_tag(std::uint64_t tag) {
    if (!device_ || tag >> kGenerationShift != generation_) return;
    const auto unit = static_cast<std::int64_t>(tag & (kHostBit - 1));
    Placement& placement = (tag & kHostBit) != 0 ? *host_ : *device_;
    placement.release((unit - 1) * kOffsetUnit);
  }

  std::optional<Placement> device_, host_;
  std::uint64_t generation_ = 0;
};

MetaArena& meta_arena() {
  static MetaArena* const arena = [] {
    auto installed = std::make_unique<MetaArena>().release();
    c10::SetAllocator(c10::kMeta, installed, kPriority);
    return installed;
  }();
  return *arena;
}

void MetaArena::release(void* context) {
  if (context != nullptr) meta_arena().release_tag(reinterpret_cast<std::uint64_t>(context));
}

}  // namespace

void install_cpu_arena(std::optional<std::int64_t> limit, std::unique_ptr<PageLocker> locker) {
  if (cpu_arena() != nullptr) {
    AUTOGLM_CHECK(!locker, "the CPU arena is installed already");
    if (limit) set_cpu_arena_limit(*limit);
    return;
  }
  const std::int64_t machine = host_memory_limit();
  // Address space beyond the machine's memory leaves room for holes between blocks: only touched pages cost.
  const std::int64_t capacity = std::max(2 * machine, limit.value_or(0));
  cpu_arena() = std::make_unique<CpuArena>(capacity, limit.value_or(capacity), std::move(locker)).release();
  c10::SetAllocator(c10::kCPU, cpu_arena(), kPriority);
}

ArenaStatistics cpu_arena_statistics(MemoryPool pool) {
  AUTOGLM_CHECK(cpu_arena() != nullptr, "no CPU arena is installed");
  return cpu_arena()->statistics(pool);
}

MemoryStatistics cpu_memory_statistics() {
  return {cpu_arena_statistics(MemoryPool::device), cpu_arena_statistics(MemoryPool::host)};
}

void reset_cpu_arena_peak() {
  AUTOGLM_CHECK(cpu_arena() != nullptr, "no CPU arena is installed");
  cpu_arena()->reset_peak();
}

void trim_cpu_arena() {
  AUTOGLM_CHECK(cpu_arena() != nullptr, "no CPU arena is installed");
  cpu_arena()->trim();
}

void fail_cpu_allocation(std::int64_t n) {
  AUTOGLM_CHECK(cpu_arena() != nullptr, "no CPU arena is installed");
  cpu_arena()->fail_allocation(n);
}

void check_memory_limit(std::int64_t limit) {
  if (limit < (std::int64_t{1} << 20)) {
    fail(ExitCode::usage, "--memory-limit {} is too small for any model; give at least 1MiB",
         format_bytes(limit));
  }
}

void set_cpu_arena_limit(std::int64_t limit) {
  AUTOGLM_CHECK(cpu_arena() != nullptr, "no CPU arena is installed");
  check_memory_limit(limit);
  cpu_arena()->set_limit(limit);
}

RehearsalArena::RehearsalArena(std::int64_t limit, std::int64_t alignment) {
  meta_arena().start(limit, alignment);
}
RehearsalArena::~RehearsalArena() {
  meta_arena().stop();
}
MemoryStatistics RehearsalArena::statistics() const {
  return {statistics_of(meta_arena().device()), statistics_of(meta_arena().host())};
}
void RehearsalArena::reset_peak() {
  meta_arena().device().reset_peak();
  meta_arena().host().reset_peak();
}

}  // namespace autoglm
