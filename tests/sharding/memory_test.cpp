// Placement, the arenas on top of it, and the layout of flat buffers.
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <thread>

#include "base/error.h"
#include "sharding/flat_layout.h"
#include "sharding/memory/job_memory.h"
#include "sharding/memory/out_of_memory.h"
#include "sharding/memory/rehearsal_arena.h"

namespace autoglm {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;

std::int64_t rounded(std::int64_t bytes, std::int64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

// A naive account of what a Placement should hold.
class Shadow {
 public:
  explicit Shadow(std::int64_t alignment) : alignment_(alignment) {}

  void allocate(std::int64_t offset, std::int64_t bytes, MemoryCategory category) {
    const std::int64_t size = rounded(bytes, alignment_);
    EXPECT_EQ(offset % alignment_, 0);
    const auto after = used_.lower_bound(offset);
    EXPECT_TRUE(after == used_.end() || offset + size <= after->first) << "overlaps what follows";
    EXPECT_TRUE(after == used_.begin() || std::prev(after)->first + std::prev(after)->second.first <= offset)
        << "overlaps what precedes";
    used_[offset] = {size, category};
    total_ += size;
    by_category_[static_cast<std::size_t>(category)] += size;
    if (total_ > peak_) {
      peak_ = total_;
      peak_by_category_ = by_category_;
    }
    extent_ = std::max(extent_, offset + size);
  }
  std::int64_t release_any(std::mt19937& random) {
    auto chosen = used_.begin();
    std::advance(chosen, static_cast<std::int64_t>(random() % used_.size()));
    const std::int64_t offset = chosen->first;
    total_ -= chosen->second.first;
    by_category_[static_cast<std::size_t>(chosen->second.second)] -= chosen->second.first;
    used_.erase(chosen);
    return offset;
  }
  void reset_peak() {
    peak_ = total_;
    peak_by_category_ = by_category_;
    extent_ = used_.empty() ? 0 : used_.rbegin()->first + used_.rbegin()->second.first;
  }
  // Sizes of the free ranges below `capacity`, found by walking.
  std::vector<std::pair<std::int64_t, std::int64_t>> free_ranges(std::int64_t capacity) const {
    std::vector<std::pair<std::int64_t, std::int64_t>> ranges;
    std::int64_t cursor = 0;
    for (const auto& [offset, block] : used_) {
      if (std::min(offset, capacity) > cursor)
        ranges.emplace_back(std::min(offset, capacity) - cursor, cursor);
      cursor = offset + block.first;
    }
    if (capacity > cursor) ranges.emplace_back(capacity - cursor, cursor);
    std::sort(ranges.begin(), ranges.end());
    return ranges;
  }
  void expect_same(const Placement& placement) const {
    EXPECT_EQ(placement.use().total, total_);
    EXPECT_EQ(placement.use().by_category, by_category_);
    EXPECT_EQ(placement.peak().total, peak_);
    EXPECT_EQ(placement.peak().by_category, peak_by_category_);
    EXPECT_EQ(placement.extent(), extent_);
    const auto ranges = free_ranges(placement.capacity());
    EXPECT_EQ(placement.largest_free_block(), ranges.empty() ? 0 : ranges.back().first) << "not joined";
  }
  bool empty() const { return used_.empty(); }

 private:
  std::int64_t alignment_;
  std::map<std::int64_t, std::pair<std::int64_t, MemoryCategory>> used_;
  std::int64_t total_ = 0, peak_ = 0, extent_ = 0;
  std::array<std::int64_t, kNumMemoryCategories> by_category_{}, peak_by_category_{};
};

// Thousands of random calls against the naive account, with changes of the capacity among them.
TEST(PlacementTest, RandomCallsNeverOverlapAndAlwaysJoin) {
  for (const std::int64_t alignment : {64, 512}) {
    std::mt19937 random(static_cast<std::uint32_t>(alignment));
    constexpr std::int64_t kCapacity = 1 << 18;
    Placement placement(kCapacity, alignment);
    Shadow shadow(alignment);
    int refused = 0;
    for (int i = 0; i < 6000; ++i) {
      const std::uint32_t dice = random() % 1000;
      if (dice == 0) {
        placement.reset_peak();
        shadow.reset_peak();
      } else if (dice < 5) {
        placement.set_capacity(kCapacity / 2 + static_cast<std::int64_t>(random() % (kCapacity / 2)));
        EXPECT_EQ(placement.capacity() % alignment, 0);
      } else if (dice < 520 || shadow.empty()) {
        const auto bytes = static_cast<std::int64_t>(1 + random() % (random() % 4 == 0 ? 40000 : 3000));
        const auto category = static_cast<MemoryCategory>(random() % kNumMemoryCategories);
        // Best fit: the smallest free range that is large enough, the lowest of equals; the one at the end
        // comes after all others.
        auto ranges = shadow.free_ranges(placement.capacity());
        std::stable_partition(ranges.begin(), ranges.end(), [&](const auto& range) {
          return range.first + range.second != placement.capacity();
        });
        const auto best = std::find_if(ranges.begin(), ranges.end(), [&](const auto& range) {
          return range.first >= rounded(bytes, alignment);
        });
        const std::int64_t offset = placement.allocate(bytes, category);
        ASSERT_EQ(offset, best == ranges.end() ? -1 : best->second);
        refused += offset < 0;
        if (offset >= 0) shadow.allocate(offset, bytes, category);
      } else {
        placement.release(shadow.release_any(random));
      }
      shadow.expect_same(placement);
      if (::testing::Test::HasFailure()) FAIL() << "call " << i;
    }
    EXPECT_GT(refused, 10);
    while (!shadow.empty()) placement.release(shadow.release_any(random));
    EXPECT_EQ(placement.largest_free_block(), placement.capacity());
    EXPECT_EQ(placement.use().total, 0);
  }
}

TEST(PlacementTest, LaysOutAlikeUnderEveryCapacityThatIsEnough) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    const auto run = [&](std::int64_t capacity) {
      Placement placement(capacity, 64);
      std::mt19937 random(seed);
      std::vector<std::int64_t> live, offsets;
      for (int i = 0; i < 400; ++i) {
        if (live.empty() || random() % 5 < 3) {
          live.push_back(placement.allocate(1 + random() % 5000, MemoryCategory::other));
          offsets.push_back(live.back());
          if (live.back() < 0) break;
        } else {
          const std::size_t which = random() % live.size();
          placement.release(live[which]);
          live.erase(live.begin() + static_cast<std::ptrdiff_t>(which));
        }
      }
      return std::pair(offsets, placement.extent());
    };
    const auto [expected, extent] = run(std::int64_t{1} << 40);
    EXPECT_EQ(run(extent).first, expected) << seed;
    EXPECT_EQ(run(extent + 4096).first, expected) << seed;
  }
}

TEST(PlacementTest, RefusesWhatWasNeverAllocated) {
  Placement placement(4096, 64);
  const std::int64_t offset = placement.allocate(100, MemoryCategory::data);
  EXPECT_EQ(placement.allocate(4096, MemoryCategory::data), -1);
  EXPECT_THROW(placement.release(offset + 64), Error);
  EXPECT_EQ(placement.release(offset), 128);
  EXPECT_THROW(placement.release(offset), Error);
  EXPECT_THROW(placement.allocate(0, MemoryCategory::data), Error);
  EXPECT_THROW(Placement(4096, 48), Error);
}

// A tightened limit leaves what lies beyond it valid, and gives no new bytes there.
TEST(PlacementTest, SurvivesACapacityBelowWhatIsInUse) {
  Placement placement(1024, 64);
  const std::int64_t low = placement.allocate(256, MemoryCategory::data);
  const std::int64_t high = placement.allocate(512, MemoryCategory::data);
  placement.set_capacity(512);
  EXPECT_EQ(placement.largest_free_block(), 0);
  EXPECT_EQ(placement.allocate(64, MemoryCategory::data), -1);
  EXPECT_EQ(placement.release(high), 512);
  EXPECT_EQ(placement.largest_free_block(), 256);
  placement.set_capacity(1024);
  EXPECT_EQ(placement.largest_free_block(), 768);
  placement.release(low);
  EXPECT_EQ(placement.largest_free_block(), 1024);
}

at::Tensor bytes_on(at::DeviceType device, std::int64_t bytes) {
  return at::empty({bytes}, at::TensorOptions().dtype(at::kByte).device(device));
}

class CpuArenaTest : public ::testing::Test {
 protected:
  CpuArenaTest() { install_job_memory(64 * kMebibyte); }
};

TEST_F(CpuArenaTest, CountsTensorsByCategory) {
  const MemoryUse before = job_memory().device().statistics().use;
  job_memory().reset_peak();
  {
    const CategoryScope weights(MemoryCategory::weights);
    const at::Tensor first = bytes_on(at::kCPU, 1000);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first.data_ptr()) % 64, 0u);
    at::Tensor second;
    {
      const CategoryScope head(MemoryCategory::head);
      second = bytes_on(at::kCPU, 5000);
    }
    const MemoryUse use = job_memory().device().statistics().use;
    EXPECT_EQ(use[MemoryCategory::weights] - before[MemoryCategory::weights], 1024);
    EXPECT_EQ(use[MemoryCategory::head] - before[MemoryCategory::head], 5056);
    EXPECT_EQ(use.total - before.total, 6080);
    EXPECT_EQ(bytes_on(at::kCPU, 0).numel(), 0);
  }
  EXPECT_EQ(job_memory().device().statistics().use.total, before.total);
  EXPECT_EQ(job_memory().device().statistics().peak.total - before.total, 6080);
  EXPECT_EQ(current_category(), MemoryCategory::other);
}

TEST_F(CpuArenaTest, SaysWhatDoesNotFit) {
  job_memory().device().set_limit(2 * kMebibyte);
  const at::Tensor kept = bytes_on(at::kCPU, kMebibyte);
  try {
    const CategoryScope scope(MemoryCategory::activations);
    bytes_on(at::kCPU, 3 * kMebibyte / 2);
    ADD_FAILURE() << "it fitted";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.requested(), 3 * kMebibyte / 2);
    EXPECT_GE(error.use().total, kMebibyte);
    for (const char* part :
         {"out of memory on the CPU", "1.5 MiB", "activations", "2.0 MiB", "largest free block"}) {
      EXPECT_THAT(error.what(), HasSubstr(part));
    }
  }
  std::memset(kept.data_ptr(), 1, static_cast<std::size_t>(kMebibyte));
  job_memory().device().set_limit(64 * kMebibyte);
  EXPECT_NO_THROW(bytes_on(at::kCPU, 3 * kMebibyte / 2));
}

// Threads write patterns into what they get and find them unharmed.
TEST_F(CpuArenaTest, ServesThreadsAtOnce) {
  const std::int64_t before = job_memory().device().statistics().use.total;
  const auto work = [](std::uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<at::Tensor> held;
    for (int i = 0; i < 400; ++i) {
      at::Tensor tensor = bytes_on(at::kCPU, static_cast<std::int64_t>(1 + random() % 20000));
      std::memset(tensor.data_ptr(), static_cast<int>(seed), tensor.nbytes());
      held.push_back(tensor);
      if (held.size() < 20) continue;
      std::swap(held[random() % held.size()], held.back());
      const auto* data = static_cast<const unsigned char*>(held.back().const_data_ptr());
      EXPECT_TRUE(
          std::all_of(data, data + held.back().nbytes(), [&](unsigned char byte) { return byte == seed; }));
      held.pop_back();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::uint32_t seed = 1; seed <= 3; ++seed) threads.emplace_back(work, seed);
  }
  EXPECT_EQ(job_memory().device().statistics().use.total, before);
}

TEST(RehearsalArenaTest, CountsMetaTensorsWhileItExists) {
  const at::Tensor before = bytes_on(at::kMeta, 100000);
  {
    RehearsalArena arena(kMebibyte, 512);
    const CategoryScope scope(MemoryCategory::gradients);
    at::Tensor first = bytes_on(at::kMeta, 100), second = bytes_on(at::kMeta, 600);
    EXPECT_EQ(arena.statistics().device.use.total, 512 + 1024);
    EXPECT_EQ(arena.statistics().device.use[MemoryCategory::gradients], 512 + 1024);
    first.reset();
    EXPECT_EQ(arena.statistics().device.use.total, 1024);
    EXPECT_EQ(arena.statistics().device.peak.total, 512 + 1024);
    EXPECT_EQ(arena.statistics().device.extent, 512 + 1024);
    EXPECT_EQ(arena.statistics().device.num_allocations, 2);
    arena.reset_peak();
    EXPECT_EQ(arena.statistics().device.peak.total, 1024);
    try {
      bytes_on(at::kMeta, kMebibyte);
      ADD_FAILURE() << "it fitted";
    } catch (const OutOfMemory& error) {
      EXPECT_THAT(error.what(), HasSubstr("out of memory on the rehearsed device: 1.0 MiB for gradients"));
    }
    EXPECT_THROW(RehearsalArena(), Error);
    EXPECT_EQ(arena.statistics().device.use.total, 1024);
  }
  EXPECT_NO_THROW(bytes_on(at::kMeta, std::int64_t{1} << 40));
}

TEST(RehearsalArenaTest, TensorsMayOutliveTheirRehearsal) {
  at::Tensor survivor, second_survivor;
  {
    RehearsalArena arena;
    survivor = bytes_on(at::kMeta, 1000);
    second_survivor = bytes_on(at::kMeta, 1000);
  }
  {
    RehearsalArena arena;
    const at::Tensor mine = bytes_on(at::kMeta, 1000);
    survivor.reset();  // lies where `mine` does, in another rehearsal
    EXPECT_EQ(arena.statistics().device.use.total, 1024);
  }
  second_survivor.reset();
  RehearsalArena arena;
  EXPECT_EQ(arena.statistics().device.use.total, 0);
}

TEST(FlatLayoutTest, AlignsParametersAndShards) {
  std::mt19937 random(3);
  for (int repeat = 0; repeat < 200; ++repeat) {
    std::vector<std::int64_t> elements;
    for (std::size_t i = 0; i < 1 + random() % 12; ++i)
      elements.push_back(1 + static_cast<std::int64_t>(random() % 5000));
    const int world_size = 1 + static_cast<int>(random() % 9);
    const FlatLayout layout(elements, world_size);
    ASSERT_EQ(layout.num_parameters(), elements.size());
    std::int64_t end = 0;
    for (std::size_t i = 0; i < elements.size(); ++i) {
      EXPECT_EQ(layout.elements(i), elements[i]);
      EXPECT_EQ(layout.offset(i) % 64, 0);
      EXPECT_GE(layout.offset(i), end);
      EXPECT_LT(layout.offset(i), end + 64);
      end = layout.offset(i) + elements[i];
    }
    EXPECT_EQ(layout.shard_elements() % 64, 0);
    EXPECT_EQ(layout.shard_elements() * world_size, layout.total_elements());
    EXPECT_GE(layout.total_elements(), end);
    EXPECT_LT(layout.total_elements(), end + 64 * (world_size + 1));
    // Where parameters lie does not depend on the number of ranks.
    const FlatLayout alone(elements, 1);
    for (std::size_t i = 0; i < elements.size(); ++i) EXPECT_EQ(alone.offset(i), layout.offset(i));
  }
  EXPECT_EQ(FlatLayout(std::vector<std::int64_t>{64, 1, 128}, 1).total_elements(), 256);
  EXPECT_EQ(FlatLayout(std::vector<std::int64_t>{64, 1, 128}, 3).shard_elements(), 128);
}

// Pages of freed tensors go back to the system; those in use keep their values.
TEST_F(CpuArenaTest, TrimGivesFreePagesBack) {
  install_job_memory();
  const auto resident = [] {
    std::int64_t pages = 0, total = 0;
    std::ifstream("/proc/self/statm") >> total >> pages;
    return pages * 4096;
  };
  constexpr std::int64_t kBytes = std::int64_t{32} << 20;
  const at::Tensor kept = at::full({1 << 20}, 7.0f);
  at::Tensor freed = at::full({kBytes}, 1, at::kChar);
  const std::int64_t before = resident();
  freed.reset();
  EXPECT_GT(resident(), before - kBytes / 2);
  job_memory().trim();
  EXPECT_LT(resident(), before - kBytes * 3 / 4);
  EXPECT_EQ(kept.const_data_ptr<float>()[kept.numel() - 1], 7.0f);
}

// The host's pool lies apart from the device's, in the arena and in the rehearsal.
TEST(PoolTest, AreCountedApart) {
  install_job_memory();
  const auto use = [](const at::Device& device, const std::function<MemoryStatistics()>& statistics) {
    const MemoryStatistics before = statistics();
    {
      const CategoryScope category(MemoryCategory::staging);
      const at::Tensor on_device = at::empty({100}, at::TensorOptions().dtype(at::kFloat).device(device));
      std::optional<PoolScope> scope(MemoryPool::host);
      const at::Tensor on_host = at::empty({1000}, at::TensorOptions().dtype(at::kFloat).device(device));
      scope.reset();
      EXPECT_EQ(current_pool(), MemoryPool::device);
      EXPECT_EQ(statistics().device.use.total - before.device.use.total, 448);
      EXPECT_EQ(statistics().host.use.total - before.host.use.total, 4032);
      EXPECT_EQ(statistics().host.use[MemoryCategory::staging] - before.host.use[MemoryCategory::staging],
                4032);
    }
    EXPECT_EQ(statistics().device.use.total, before.device.use.total);
    EXPECT_EQ(statistics().host.use.total, before.host.use.total);
    EXPECT_GE(statistics().host.peak.total, before.host.use.total + 4032);
  };
  use(at::kCPU, [] { return job_memory().statistics(); });
  const RehearsalArena arena;
  use(at::kMeta, [&] { return arena.statistics(); });
}

}  // namespace
}  // namespace autoglm
