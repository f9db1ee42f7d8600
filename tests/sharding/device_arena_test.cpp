// The arena of a device and the page-locked pool beside it, over memory that a test controls.
#include "sharding/memory/device_arena.h"

#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "base/error.h"
#include "sharding/memory/job_memory.h"

namespace autoglm {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;

// A device that gives `available` bytes in pieces of 64 KiB.
class FakeMemory final : public GrowingMemory {
 public:
  FakeMemory(std::int64_t capacity, std::int64_t available)
      : bytes_(static_cast<std::size_t>(capacity)), available_(available) {}
  char* base() const override { return const_cast<char*>(bytes_.data()); }
  std::int64_t capacity() const override { return static_cast<std::int64_t>(bytes_.size()); }
  std::int64_t backed() const override { return backed_; }
  bool extend(std::int64_t bytes) override {
    constexpr std::int64_t kPiece = 64 << 10;
    while (backed_ < bytes) {
      if (backed_ + kPiece > available_) return false;
      backed_ += kPiece;
    }
    return true;
  }

 private:
  std::vector<char> bytes_;
  std::int64_t available_;
  std::int64_t backed_ = 0;
};

DeviceArena make_arena(std::int64_t capacity, std::int64_t available, std::int64_t limit) {
  return DeviceArena(std::make_unique<FakeMemory>(capacity, available), limit, RehearsalArena::kCudaAlignment,
                     "the fake device");
}

TEST(DeviceArena, FailsTheAllocationThatATestNames) {
  DeviceArena arena = make_arena(kMebibyte, kMebibyte, kMebibyte);
  arena.fail_allocation(2);
  char* first = arena.allocate(100);
  EXPECT_THROW(arena.allocate(100), OutOfMemory);
  arena.release(arena.allocate(100));
  arena.release(first);
  EXPECT_EQ(arena.statistics().use.total, 0);
}

TEST(DeviceArena, PlacesAsARehearsalDoes) {
  DeviceArena arena = make_arena(8 * kMebibyte, 8 * kMebibyte, 8 * kMebibyte);
  Placement rehearsal(8 * kMebibyte, RehearsalArena::kCudaAlignment);
  std::mt19937 random(5);
  std::vector<std::pair<char*, std::int64_t>> live;
  char* base = arena.allocate(1);
  ASSERT_EQ(rehearsal.allocate(1, MemoryCategory::other), 0);
  for (int i = 0; i < 2000; ++i) {
    if (live.empty() || random() % 2 == 0) {
      const std::int64_t bytes = 1 + random() % 30000;
      const CategoryScope scope(i % 3 == 0 ? MemoryCategory::weights : MemoryCategory::head);
      const std::int64_t offset = rehearsal.allocate(bytes, current_category());
      char* data = arena.allocate(bytes);
      EXPECT_EQ(data - base, offset);
      EXPECT_EQ(offset % 512, 0);
      live.emplace_back(data, offset);
    } else {
      const std::size_t chosen = random() % live.size();
      arena.release(live[chosen].first);
      rehearsal.release(live[chosen].second);
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(chosen));
    }
  }
  const ArenaStatistics seen = arena.statistics();
  EXPECT_EQ(seen.use.total, rehearsal.use().total);
  EXPECT_EQ(seen.peak.by_category, rehearsal.peak().by_category);
  EXPECT_EQ(seen.extent, rehearsal.extent());
  EXPECT_GE(arena.backed(), seen.extent);
  EXPECT_LT(arena.backed(), seen.extent + kMebibyte);
}

TEST(DeviceArena, ThrowsAtItsLimitAndSaysWhatWasAskedFor) {
  DeviceArena arena = make_arena(4 * kMebibyte, 4 * kMebibyte, kMebibyte);
  char* kept = arena.allocate(kMebibyte / 2);
  const CategoryScope scope(MemoryCategory::slots);
  try {
    arena.allocate(kMebibyte);
    FAIL() << "more than the limit was given";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.requested(), kMebibyte);
    EXPECT_EQ(error.use().total, kMebibyte / 2);
    EXPECT_THAT(error.what(), HasSubstr("out of memory on the fake device: 1.0 MiB for slots"));
  }
  arena.set_limit(4 * kMebibyte);
  EXPECT_EQ(arena.allocate(kMebibyte) - kept, kMebibyte / 2);
}

TEST(DeviceArena, MeetsTheEndOfTheDeviceBeforeItsLimit) {
  DeviceArena arena = make_arena(4 * kMebibyte, kMebibyte, 4 * kMebibyte);
  char* first = arena.allocate(kMebibyte / 2);
  const std::int64_t extent = arena.statistics().extent;
  try {
    arena.allocate(2 * kMebibyte);
    FAIL() << "more than the device has was given";
  } catch (const OutOfMemory& error) {
    EXPECT_THAT(error.what(), HasSubstr("the device gives no more"));
  }
  // What was refused left no trace; what there is can still be had, and is the limit from now on.
  EXPECT_EQ(arena.statistics().extent, extent);
  EXPECT_EQ(arena.statistics().use.total, kMebibyte / 2);
  EXPECT_EQ(arena.statistics().limit, kMebibyte);
  EXPECT_EQ(arena.allocate(kMebibyte / 2) - first, kMebibyte / 2);
  EXPECT_THROW(arena.allocate(1), OutOfMemory);
}

// Accepts so many bytes.
struct LockBook {
  std::map<void*, std::int64_t> locked;
  std::int64_t room = 0;
};

class FakeLocker final : public PageLocker {
 public:
  explicit FakeLocker(LockBook& book) : book_(book) {}
  std::string lock(void* data, std::int64_t bytes) override {
    if (bytes > book_.room) return "not permitted";
    book_.room -= bytes;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 4096, 0U);
    EXPECT_EQ(bytes % 4096, 0);
    EXPECT_TRUE(book_.locked.emplace(data, bytes).second);
    return {};
  }
  void unlock(void* data, std::int64_t bytes) override {
    EXPECT_EQ(book_.locked.at(data), bytes);
    book_.locked.erase(data);
    book_.room += bytes;
  }

 private:
  LockBook& book_;
};

at::Tensor make_bytes(std::int64_t count, MemoryPool pool) {
  const PoolScope scope(pool);
  return at::empty({count}, at::kByte);
}

// One test for all that needs the process's one CPU arena.
TEST(LockedPool, LocksWholePagesOfTheHostsPoolOnly) {
  static LockBook book{{}, 64 << 10};
  install_cpu_arena(std::nullopt, std::make_unique<FakeLocker>(book));
  const at::Tensor pageable = make_bytes(100000, MemoryPool::device);
  EXPECT_TRUE(book.locked.empty());
  at::Tensor pinned = make_bytes(5000, MemoryPool::host);
  ASSERT_EQ(book.locked.count(pinned.data_ptr()), 1U);
  EXPECT_EQ(book.locked.at(pinned.data_ptr()), 8192);
  const at::Tensor next = make_bytes(1, MemoryPool::host);
  EXPECT_EQ(book.locked.size(), 2U);
  EXPECT_EQ(cpu_arena_statistics(MemoryPool::host).use.total, 8192 + 4096);

  try {
    make_bytes(60000, MemoryPool::host);
    FAIL() << "locking was refused, the tensor was made";
  } catch (const OutOfMemory& error) {
    EXPECT_THAT(error.what(), HasSubstr("locking the pages was refused: not permitted"));
  }
  EXPECT_EQ(cpu_arena_statistics(MemoryPool::host).use.total, 8192 + 4096);
  pinned.reset();
  EXPECT_EQ(book.locked.size(), 1U);
  EXPECT_NO_THROW(make_bytes(50000, MemoryPool::host));

  // A job on another device has that device's arena beside this host's pool.
  EXPECT_EQ(job_memory_statistics().device.use.total, cpu_arena_statistics().use.total);
  static DeviceArena arena = make_arena(4 * kMebibyte, 4 * kMebibyte, 2 * kMebibyte);
  arena.allocate(1000);
  use_device_arena(arena);
  EXPECT_EQ(job_memory_statistics().device.use.total, 1024);
  EXPECT_EQ(job_memory_statistics().host.use.total, 4096);
  EXPECT_EQ(job_device_backed_bytes(), 64 << 10);
  set_job_memory_limit(kMebibyte);
  EXPECT_EQ(job_memory_statistics().device.limit, kMebibyte);
  EXPECT_THROW(set_job_memory_limit(1000), Error);
}

}  // namespace
}  // namespace autoglm
