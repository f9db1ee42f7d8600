#include "sharding/memory/job_memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <malloc.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "sharding/memory/category.h"
#include "sharding/memory/host_mapping.h"
#include "sharding/memory/host_memory.h"

namespace autoglm {
namespace {

// LibTorch keeps a plain pointer to its allocators for the life of the process, also while it is torn
// down, so neither they nor the arenas are ever destroyed.
JobMemory* installed = nullptr;

void release_on_cpu(void* data) {
  if (data == nullptr) return;
  char* const bytes = static_cast<char*>(data);
  (installed->host().holds(bytes) ? installed->host() : installed->cpu()).release(bytes);
}

class CpuAllocator final : public at::Allocator {
 public:
  at::DataPtr allocate(std::size_t bytes) override {
    Arena& arena = current_pool() == MemoryPool::host ? installed->host() : installed->cpu();
    char* data = bytes == 0 ? nullptr : arena.allocate(static_cast<std::int64_t>(bytes));
    return {data, data, &release_on_cpu, at::Device(at::kCPU)};
  }
  at::DeleterFnPtr raw_deleter() const override { return &release_on_cpu; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
};

}  // namespace

JobMemory::JobMemory(std::unique_ptr<Arena> cpu, std::unique_ptr<Arena> host)
    : cpu_(std::move(cpu)), host_(std::move(host)) {}

void JobMemory::use_device(std::unique_ptr<Arena> arena) {
  AUTOGLM_CHECK(device_ == nullptr, "the job's device has its memory already");
  device_ = std::move(arena);
}

void JobMemory::reset_peak() {
  device().reset_peak();
  host_->reset_peak();
}

void JobMemory::trim() {
  cpu_->trim();
  host_->trim();
  if (device_) device_->trim();
}

void install_job_memory(std::optional<std::int64_t> limit, std::unique_ptr<LockedMapping> locked) {
  if (installed != nullptr) {
    AUTOGLM_CHECK(!locked, "the job's memory is installed already");
    if (limit) installed->cpu().set_limit(*limit);
    return;
  }
  // Each thread's own heap would take addresses that the pools need.
  if (address_limit()) mallopt(M_ARENA_MAX, 1);
  const std::int64_t wanted = std::max(host_addresses(), limit.value_or(0));
  const std::int64_t addresses = pool_addresses(wanted);
  auto cpu = std::make_unique<Arena>(std::make_unique<HostMapping>(addresses), limit.value_or(addresses),
                                     Arena::kCpuAlignment, "the CPU");
  const std::int64_t alignment = locked ? Arena::kLockedAlignment : Arena::kCpuAlignment;
  std::unique_ptr<HostMapping> mapping = std::move(locked);
  if (!mapping) mapping = std::make_unique<HostMapping>(pool_addresses(wanted));
  auto host = std::make_unique<Arena>(std::move(mapping), wanted, alignment, "the host");
  installed = std::make_unique<JobMemory>(std::move(cpu), std::move(host)).release();
  constexpr std::uint8_t kPriority = 100;
  c10::SetAllocator(c10::kCPU, std::make_unique<CpuAllocator>().release(), kPriority);
}

JobMemory& job_memory() {
  AUTOGLM_CHECK(installed != nullptr, "no memory is installed");
  return *installed;
}

}  // namespace autoglm
