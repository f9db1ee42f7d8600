// The arena of a device and the page-locked pool beside it, over memory that a test controls.
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/math.h"
#include "sharding/memory/job_memory.h"
#include "sharding/memory/out_of_memory.h"

namespace autoglm {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;

// A device that gives `available` bytes in pieces of 64 KiB.
class FakeMemory final : public Backing {
 public:
  FakeMemory(std::int64_t capacity, std::int64_t available)
      : Backing(nullptr, capacity), bytes_(static_cast<std::size_t>(capacity)), available_(available) {
    base_ = bytes_.data();
  }
  std::int64_t backed(std::int64_t) const override { return backed_; }
  std::string take(std::int64_t offset, std::int64_t bytes) override {
    while (backed_ < offset + bytes) {
      if (backed_ + kPiece > available_) {
        capacity_ = backed_;
        return "the device gives no more";
      }
      backed_ += kPiece;
    }
    return {};
  }
  void trim_end(std::int64_t top) override { backed_ = std::min(backed_, round_up(top, kPiece)); }

 private:
  static constexpr std::int64_t kPiece = 64 << 10;

  std::vector<char> bytes_;
  std::int64_t available_;
  std::int64_t backed_ = 0;
};

std::unique_ptr<Arena> make_arena(std::int64_t capacity, std::int64_t available, std::int64_t limit) {
  return std::make_unique<Arena>(std::make_unique<FakeMemory>(capacity, available), limit,
                                 Arena::kCudaAlignment, "the fake device");
}

// So that libraries find memory for what they load, after an attempt that needed more than there was.
TEST(DeviceArena, GivesBackWhatLiesAboveAllThatIsInUse) {
  const auto arena = make_arena(kMebibyte, kMebibyte, kMebibyte / 2);
  char* const first = arena->allocate(70 << 10);
  char* const second = arena->allocate(200 << 10);
  arena->release(first);
  arena->trim();
  EXPECT_EQ(arena->backed(), 320 << 10);
  char* const again = arena->allocate(70 << 10);
  EXPECT_EQ(again, first);
  arena->release(second);
  arena->set_limit(100 << 10);
  arena->trim();
  EXPECT_EQ(arena->backed(), 128 << 10);
  arena->release(again);
  arena->trim();
  EXPECT_EQ(arena->backed(), 0);
  arena->release(arena->allocate(90 << 10));
  EXPECT_EQ(arena->backed(), 128 << 10);
}

TEST(OutOfMemoryWords, AreTakenForWhatTheyMean) {
  for (const char* text : {"CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`",
                           "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
                           "AdamW failed: out of memory (cudaErrorMemoryAllocation)"})
    EXPECT_TRUE(as_out_of_memory(text)) << text;
  EXPECT_EQ(std::string(as_out_of_memory("CUDA error: out of memory\ntrace")->what()),
            "CUDA error: out of memory");
  EXPECT_EQ(
      std::string(as_out_of_memory("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `f(x)`")->what()),
      "CUDA error: CUBLAS_STATUS_ALLOC_FAILED");
  for (const char* text : {"CUDA error: an illegal memory access was encountered",
                           "target 7 of a vocabulary of 5", "wrong shape\nfreed when out of memory"})
    EXPECT_FALSE(as_out_of_memory(text)) << text;
}

TEST(DeviceArena, FailsTheAllocationThatATestNames) {
  const auto arena = make_arena(kMebibyte, kMebibyte, kMebibyte);
  arena->fail_allocation(2);
  char* first = arena->allocate(100);
  EXPECT_THROW(arena->allocate(100), OutOfMemory);
  arena->release(arena->allocate(100));
  arena->release(first);
  EXPECT_EQ(arena->statistics().use.total, 0);
}

TEST(DeviceArena, PlacesAsARehearsalDoes) {
  const auto arena = make_arena(8 * kMebibyte, 8 * kMebibyte, 8 * kMebibyte);
  Placement rehearsal(8 * kMebibyte, Arena::kCudaAlignment);
  std::mt19937 random(5);
  std::vector<std::pair<char*, std::int64_t>> live;
  char* base = arena->allocate(1);
  ASSERT_EQ(rehearsal.allocate(1, MemoryCategory::other), 0);
  for (int i = 0; i < 2000; ++i) {
    if (live.empty() || random() % 2 == 0) {
      const std::int64_t bytes = 1 + random() % 30000;
      const CategoryScope scope(i % 3 == 0 ? MemoryCategory::weights : MemoryCategory::head);
      const std::int64_t offset = rehearsal.allocate(bytes, current_category());
      char* data = arena->allocate(bytes);
      EXPECT_EQ(data - base, offset);
      EXPECT_EQ(offset % 512, 0);
      live.emplace_back(data, offset);
    } else {
      const std::size_t chosen = random() % live.size();
      arena->release(live[chosen].first);
      rehearsal.release(live[chosen].second);
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(chosen));
    }
  }
  const ArenaStatistics seen = arena->statistics();
  EXPECT_EQ(seen.use.total, rehearsal.use().total);
  EXPECT_EQ(seen.peak.by_category, rehearsal.peak().by_category);
  EXPECT_EQ(seen.extent, rehearsal.extent());
  EXPECT_GE(arena->backed(), seen.extent);
  EXPECT_LT(arena->backed(), seen.extent + kMebibyte);
}

TEST(DeviceArena, ThrowsAtItsLimitAndSaysWhatWasAskedFor) {
  const auto arena = make_arena(4 * kMebibyte, 4 * kMebibyte, kMebibyte);
  char* kept = arena->allocate(kMebibyte / 2);
  const CategoryScope scope(MemoryCategory::slots);
  try {
    arena->allocate(kMebibyte);
    FAIL() << "more than the limit was given";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.requested(), kMebibyte);
    EXPECT_EQ(error.use().total, kMebibyte / 2);
    EXPECT_THAT(error.what(), HasSubstr("out of memory on the fake device: 1.0 MiB for slots"));
  }
  arena->set_limit(4 * kMebibyte);
  EXPECT_EQ(arena->allocate(kMebibyte) - kept, kMebibyte / 2);
}

TEST(DeviceArena, MeetsTheEndOfTheDeviceBeforeItsLimit) {
  const auto arena = make_arena(4 * kMebibyte, kMebibyte, 4 * kMebibyte);
  char* first = arena->allocate(kMebibyte / 2);
  const std::int64_t extent = arena->statistics().extent;
  try {
    arena->allocate(2 * kMebibyte);
    FAIL() << "more than the device has was given";
  } catch (const OutOfMemory& error) {
    EXPECT_THAT(error.what(), HasSubstr("the device gives no more"));
  }
  // What was refused left no trace; what there is can still be had, and is the limit from now on.
  EXPECT_EQ(arena->statistics().extent, extent);
  EXPECT_EQ(arena->statistics().use.total, kMebibyte / 2);
  EXPECT_EQ(arena->statistics().limit, kMebibyte);
  EXPECT_EQ(arena->allocate(kMebibyte / 2) - first, kMebibyte / 2);
  EXPECT_THROW(arena->allocate(1), OutOfMemory);
}

// Accepts so many bytes.
struct LockBook {
  std::map<void*, std::int64_t> locked;
  std::int64_t room = 0;
};

class FakeLockedMapping final : public LockedMapping {
 public:
  explicit FakeLockedMapping(LockBook& book) : book_(book) {}

 private:
  std::string lock(char* data, std::int64_t bytes) override {
    if (bytes > book_.room) return "not permitted";
    book_.room -= bytes;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 4096, 0U);
    EXPECT_EQ(bytes % 4096, 0);
    EXPECT_TRUE(book_.locked.emplace(data, bytes).second);
    return {};
  }
  void unlock(char* data, std::int64_t bytes) override {
    EXPECT_EQ(book_.locked.at(data), bytes);
    book_.locked.erase(data);
    book_.room += bytes;
  }

  LockBook& book_;
};

at::Tensor make_bytes(std::int64_t count, MemoryPool pool) {
  const PoolScope scope(pool);
  return at::empty({count}, at::kByte);
}

// One test for all that needs the process's one CPU arena.
TEST(LockedPool, LocksWholePagesOfTheHostsPoolOnly) {
  static LockBook book{{}, 64 << 10};
  install_job_memory(std::nullopt, std::make_unique<FakeLockedMapping>(book));
  const at::Tensor pageable = make_bytes(100000, MemoryPool::device);
  EXPECT_TRUE(book.locked.empty());
  at::Tensor pinned = make_bytes(5000, MemoryPool::host);
  ASSERT_EQ(book.locked.count(pinned.data_ptr()), 1U);
  EXPECT_EQ(book.locked.at(pinned.data_ptr()), 8192);
  const at::Tensor next = make_bytes(1, MemoryPool::host);
  EXPECT_EQ(book.locked.size(), 2U);
  EXPECT_EQ(job_memory().host().statistics().use.total, 8192 + 4096);

  try {
    make_bytes(60000, MemoryPool::host);
    FAIL() << "locking was refused, the tensor was made";
  } catch (const OutOfMemory& error) {
    EXPECT_THAT(error.what(), HasSubstr("locking the pages was refused: not permitted"));
  }
  EXPECT_EQ(job_memory().host().statistics().use.total, 8192 + 4096);
  pinned.reset();
  EXPECT_EQ(book.locked.size(), 1U);
  EXPECT_NO_THROW(make_bytes(50000, MemoryPool::host));

  // A job on another device has that device's arena beside this host's pool.
  EXPECT_EQ(&job_memory().device(), &job_memory().cpu());
  EXPECT_GE(job_memory().statistics().device.use.total, 100000);
  job_memory().use_device(make_arena(4 * kMebibyte, 4 * kMebibyte, 2 * kMebibyte));
  job_memory().device().allocate(1000);
  EXPECT_THROW(job_memory().use_device(nullptr), Error);
  EXPECT_EQ(job_memory().statistics().device.use.total, 1024);
  EXPECT_EQ(job_memory().statistics().host.use.total, 4096);
  EXPECT_EQ(job_memory().device().backed(), 64 << 10);
  job_memory().device().set_limit(kMebibyte);
  EXPECT_EQ(job_memory().statistics().device.limit, kMebibyte);
}

}  // namespace
}  // namespace autoglm
