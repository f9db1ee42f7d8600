// How ranks come by cards: the steps that reach for CUDA are this file's, over cards that do not exist.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <mutex>

#include "base/error.h"
#include "launcher/job/job_device.h"
#include "sharding/agree.h"
#include "sharding/memory/category.h"
#include "sharding/memory/job_memory.h"
#include "sharding/memory/out_of_memory.h"
#include "tests/sharding/thread_ring.h"

namespace autoglm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::run_ranks;

constexpr std::int64_t kMebibyte = std::int64_t{1} << 20, kGibibyte = std::int64_t{1} << 30;
constexpr std::int64_t kWorkspace = 32 * kMebibyte, kNcclBytes = 300 * kMebibyte;

struct Card {
  std::string bus_id = "0000:3B:00.0";
  std::string uuid = "a";
  std::int64_t free = 8 * kGibibyte;
  int multiprocessors = 108;
  bool reads_host = false;
};

// What the rank of this thread sees, and what has become of it.
thread_local std::vector<Card> visible;
thread_local bool collectives_started = false;
std::atomic<std::int64_t> loaded{0};  // bytes of kernels
MemoryCategory category_of_products = MemoryCategory::other;

struct Outcome {
  ExitCode code = ExitCode::done;
  std::string message;
};

// As every rank of `ranks` comes by a device, each seeing the cards of its own.
Outcome outcome_of(const std::vector<std::vector<Card>>& ranks, const JobDeviceOptions& options = {},
                   const std::function<void(JobDevice&, Communicator&)>& then = {}) {
  Outcome outcome;
  const int size = static_cast<int>(ranks.size());
  loaded = 0;
  run_ranks(size, {}, [&](Communicator& control) {
    visible = ranks[static_cast<std::size_t>(control.rank())];
    collectives_started = false;
    Outcome mine;
    try {
      JobDevice device(options, {control.rank(), size, "", 1}, control);
      if (then) then(device, control);
    } catch (const Error& error) {
      mine = {error.code(), error.what()};
    } catch (const std::exception& error) {
      mine = {ExitCode::bug, error.what()};
    }
    if (control.rank() == 0) outcome = mine;
  });
  return outcome;
}

TEST(JobDeviceCards, OfTheirOwnAreTaken) {
  const Card first{.uuid = "a"}, second{.bus_id = "0000:5E:00.0", .uuid = "b"};
  EXPECT_EQ(outcome_of({{first}}).code, ExitCode::done);
  EXPECT_EQ(outcome_of({{first, second}, {first, second}}).code, ExitCode::done);
  EXPECT_EQ(outcome_of({{first}, {second}}).code, ExitCode::done);
}

TEST(JobDeviceCards, TellWhatPlansAndUploadsDependOn) {
  const Card small, large{.bus_id = "0000:5E:00.0", .multiprocessors = 148, .reads_host = true};
  // All ranks plan for the largest workspace.
  outcome_of({{small}, {large}}, {},
             [](JobDevice& device, Communicator&) { EXPECT_EQ(device.multiprocessors(), 148); });
  outcome_of({{small}}, {}, [](JobDevice& device, Communicator&) {
    EXPECT_EQ(device.multiprocessors(), 108);
    EXPECT_FALSE(ops::uploads_wait());
  });
  outcome_of({{large}}, {}, [](JobDevice&, Communicator&) { EXPECT_TRUE(ops::uploads_wait()); });
}

TEST(JobDeviceCards, OfOthersAreRefused) {
  const Outcome outcome = outcome_of({{Card()}, {Card()}});
  EXPECT_EQ(outcome.code, ExitCode::unavailable);
  EXPECT_THAT(outcome.message,
              AllOf(HasSubstr("2 ranks on " + host_name()), HasSubstr("cuda:0 A card"),
                    HasSubstr("NCCL connects one rank of a card"), HasSubstr("CUDA_VISIBLE_DEVICES")));
  // Parts of one card are devices of their own, but not to NCCL.
  EXPECT_EQ(outcome_of({{Card()}, {Card{.uuid = "b"}}}).code, ExitCode::unavailable);
}

TEST(JobDeviceCards, AreSharedWhereNcclTakesRanksForHosts) {
  setenv("NCCL_HOSTID", "0", 1);
  std::int64_t limit = 0;
  const auto note_limit = [&](JobDevice&, Communicator& control) {
    if (control.rank() == 0) limit = job_memory().statistics().device.limit;
  };
  EXPECT_EQ(outcome_of({{Card()}, {Card()}}, {}, note_limit).code, ExitCode::done);
  EXPECT_LT(limit, 4 * kGibibyte);
  EXPECT_EQ(outcome_of({{Card()}, {Card{.uuid = "b"}}}, {}, note_limit).code, ExitCode::done);
  EXPECT_GT(limit, 6 * kGibibyte);
  unsetenv("NCCL_HOSTID");
}

TEST(JobDeviceCards, ThatAreFullDoNotFit) {
  const Outcome full = outcome_of({{Card{.free = 4 * kMebibyte}}});
  EXPECT_EQ(full.code, ExitCode::does_not_fit);
  EXPECT_THAT(full.message, AllOf(HasSubstr("cuda:0 A card has no room"), HasSubstr("for workspace"),
                                  HasSubstr("end the other programs"), HasSubstr("CUDA_VISIBLE_DEVICES")));
  const Outcome limited = outcome_of({{Card()}}, {DeviceRequest::automatic, 4 * kMebibyte, 1});
  EXPECT_EQ(limited.code, ExitCode::does_not_fit);
  EXPECT_THAT(limited.message, HasSubstr("raise --memory-limit"));
}

TEST(JobDeviceCards, CountWhatIsTakenFirst) {
  outcome_of({{Card()}}, {}, [](JobDevice& device, Communicator& control) {
    EXPECT_EQ(category_of_products, MemoryCategory::workspace);
    // NCCL has connected before the limit was measured.
    const std::int64_t backed = kWorkspace, left = 8 * kGibibyte - kNcclBytes - kWorkspace;
    const std::int64_t limit = job_memory().statistics().device.limit;
    EXPECT_EQ(limit, device_limit(left, backed, 1));
    // Kernels that were expected, and more of them than that.
    loaded = 300 * kMebibyte;
    device.measure_again(control);
    EXPECT_EQ(job_memory().statistics().device.limit, limit);
    loaded = kGibibyte;
    device.measure_again(control);
    EXPECT_EQ(job_memory().statistics().device.limit, device_limit(left - kGibibyte, backed, 1, true));
  });
}

}  // namespace

CudaProbe find_cuda() {
  return {true, static_cast<int>(visible.size()), true, ""};
}

StartedDevice start_cuda_device(int device) {
  const Card& card = visible[static_cast<std::size_t>(device)];
  return {
      "A card", card.bus_id, card.uuid, card.multiprocessors, card.reads_host, {card.free, 8 * kGibibyte}};
}

void install_cuda_arenas(int, std::int64_t limit, int) {
  static std::mutex mutex;  // of ranks that are threads
  const std::lock_guard lock(mutex);
  install_job_memory(limit);
  job_memory().reset_peak();
}

DeviceConnection connect_cuda_device(int, Communicator&, ReduceScatter) {
  return {.staging = nullptr, .stream = nullptr, .communicator = make_self_communicator()};
}

void start_cuda_products(int) {
  category_of_products = current_category();
  Arena& arena = job_memory().device();
  arena.release(arena.allocate(kWorkspace));
}

void start_cuda_collectives(int, Communicator&, Communicator&) {
  collectives_started = true;
}

DeviceBytes cuda_bytes_now() {
  const Card& card = visible.front();
  const std::int64_t nccl = collectives_started ? kNcclBytes : 0;
  return {card.free - nccl - job_memory().device().backed() - loaded, 8 * kGibibyte};
}

}  // namespace autoglm
