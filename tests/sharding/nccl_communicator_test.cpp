// The communicator for GPUs without one: over a fake NCCL that works between threads, in host memory. What
// only NCCL itself can show is left to machines that have GPUs.
#include "sharding/nccl/nccl_communicator.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "sharding/agree.h"
#include "sharding/cuda/cuda_devices.h"
#include "sharding/nccl/one_nccl.h"
#include "sharding/reduce_route.h"
#include "tests/sharding/collective_checks.h"
#include "tests/sharding/joined_nccl.h"
#include "tests/sharding/thread_ring.h"

namespace autoglm {
namespace {

using testing::FakeJob;
using testing::join;
using testing::join_hanging;
using testing::only_collectives;
using testing::outcome;
using testing::quick;
using testing::run_ranks;
using namespace std::chrono_literals;  // NOLINT
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

void check_promises(FakeJob& job, Communicator& control, const NcclOptions& options) {
  const auto nccl = join(job, control, options);
  EXPECT_EQ(nccl->rank(), control.rank());
  EXPECT_EQ(nccl->size(), job.size);
  EXPECT_EQ(nccl->scratch_bytes(), options.sums_by_nccl ? 0 : 16 * 1024);
  for (const bool in_place : {false, true}) {
    testing::check_reduce_scatter(*nccl, 1001, in_place);
    testing::check_all_gather(*nccl, 77, in_place);
  }
  testing::check_all_reduce(*nccl, 5);
  testing::check_broadcast(*nccl, 100, job.size - 1);
  testing::check_exchange(*nccl);
  testing::check_barrier(*nccl);
  testing::check_in_flight(*nccl);
  testing::check_after(*nccl);
}

TEST(NcclCommunicator, KeepsThePromisesOfACommunicator) {
  for (const bool sums_by_nccl : {false, true}) {
    for (const int size : {1, 2, 3}) {
      FakeJob job(size);
      NcclOptions options = quick();
      options.sums_by_nccl = sums_by_nccl;
      const auto failures =
          run_ranks(size, {}, [&](Communicator& control) { check_promises(job, control, options); });
      EXPECT_THAT(failures, Each(std::string()));
      for (int r = 0; r < size; ++r) {
        const auto calls = job.calls_of(r);
        const int num_comms = sums_by_nccl || size == 1 ? 1 : 2;
        for (const char* call : {"init", "finalize", "destroy"}) {
          EXPECT_EQ(std::ranges::count(calls, call), num_comms) << call;
        }
        EXPECT_EQ(calls.back(), "destroy");
        EXPECT_EQ(std::ranges::count(calls, "reduce_scatter") > 0, sums_by_nccl);
      }
    }
  }
}

TEST(NcclCommunicator, RankZeroMakesTheIdAndNoCallBlocks) {
  FakeJob job(3);
  EXPECT_THAT(run_ranks(3, {}, [&](Communicator& control) { join(job, control); }), Each(std::string()));
  EXPECT_THAT(job.calls_of(0), ElementsAre("get_unique_id", "get_unique_id", "init", "init", "finalize",
                                           "finalize", "destroy", "destroy"));
  EXPECT_THAT(job.calls_of(2), ElementsAre("init", "init", "finalize", "finalize", "destroy", "destroy"));
  EXPECT_THAT(job.configs, SizeIs(6));
  for (const ncclConfig_t& config : job.configs) EXPECT_EQ(config.blocking, 0);
}

TEST(NcclCommunicator, CollectivesTakeAllChannelsAndMessagesFew) {
  for (const bool sums_by_nccl : {false, true}) {
    FakeJob job(2);
    NcclOptions options = quick();
    options.sums_by_nccl = sums_by_nccl;
    EXPECT_THAT(run_ranks(2, {}, [&](Communicator& control) { join(job, control, options); }),
                Each(std::string()));
    std::vector<int> limits;
    for (const ncclConfig_t& config : job.configs) limits.push_back(config.maxCTAs);
    std::vector<int> expected(2, NCCL_CONFIG_UNDEF_INT);
    if (!sums_by_nccl) expected.insert(expected.end(), 2, kMessageChannels);
    EXPECT_THAT(limits, ::testing::UnorderedElementsAreArray(expected));
  }
}

TEST(NcclCommunicator, StartingFailsOnAllRanksAlike) {
  const auto join_all = [](FakeJob& job, const NcclOptions& options) {
    return run_ranks(job.size, {}, [&](Communicator& control) {
      try {
        join(job, control, options);
      } catch (const AgreedError&) {
        throw;
      } catch (const std::exception& error) {
        ADD_FAILURE() << "not agreed: " << error.what();
      }
    });
  };
  {
    FakeJob job(3);
    job.id_result = ncclSystemError;
    EXPECT_THAT(join_all(job, quick()), Each(AllOf(HasSubstr("rank 0"), HasSubstr("getting an id"))));
    EXPECT_THAT(job.calls_of(1), IsEmpty());
  }
  {
    FakeJob job(3);
    job.versions = {22809, 22809, 23004};
    EXPECT_THAT(join_all(job, quick()), Each(AllOf(HasSubstr("23004"), HasSubstr("same on all hosts"))));
  }
  {
    FakeJob job(3);
    job.refused_rank = 1;
    NcclOptions options = only_collectives();
    options.patience.start_timeout = 50ms;
    EXPECT_THAT(join_all(job, options), Each(HasSubstr("coming together")));
    EXPECT_THAT(job.calls_of(0), ElementsAre("get_unique_id", "init", "report", "abort"));
    EXPECT_THAT(job.calls_of(1), ElementsAre("init", "report"));
  }
}

TEST(NcclCommunicator, AnErrorInTheBackgroundIsReportedBeforeTheAbort) {
  FakeJob job(2);
  job.collectives_meet = false;
  const auto failures = run_ranks(2, {}, [&](Communicator& control) {
    const auto nccl = join_hanging(job, control, only_collectives());
    std::vector<std::byte> whole(16);
    const Event done = nccl->all_gather(whole.data() + 8 * control.rank(), whole.data(), 8, Event());
    if (control.rank() == 0) {
      EXPECT_FALSE(done.ready());
      job.break_link(0);
      static_cast<void>(outcome(done));  // as after an abort: it does not tell
      EXPECT_THAT(job.calls_of(0), ElementsAre("get_unique_id", "init", "all_gather", "report", "abort"));
      const auto [code, message] = outcome(nccl->broadcast(whole.data(), 4, 1, Event()));
      EXPECT_EQ(code, ExitCode::peer_lost);
      EXPECT_THAT(message, AllOf(HasSubstr("rank 0, all_gather number 0 of 8 bytes: NCCL reports"),
                                 HasSubstr("connection closed by remote peer")));
      EXPECT_THAT(job.calls_of(0), SizeIs(5));
    }
    static_cast<void>(outcome(control.barrier()));
  });
  EXPECT_THAT(failures, Each(std::string()));
}

TEST(NcclCommunicator, ASilentPeerIsLostOnceTheCollectiveCouldRun) {
  FakeJob job(2);
  job.collectives_meet = false;
  const auto failures = run_ranks(2, {}, [&](Communicator& control) {
    NcclOptions options = quick();
    options.patience.timeout = control.rank() == 1 ? std::chrono::duration<double>(50ms) : 1h;
    const auto nccl = join_hanging(job, control, options);
    if (control.rank() == 1) {
      const auto compute = make_host_stream("compute");
      std::atomic<bool> release = false;
      compute->submit([&] {
        while (!release) std::this_thread::sleep_for(1ms);
      });
      std::vector<float> values(8);
      const Event done = nccl->reduce_scatter(values.data(), values.data() + 4, 4, compute->record());
      std::this_thread::sleep_for(150ms);
      EXPECT_FALSE(done.ready()) << "its input was not there yet";
      release = true;
      static_cast<void>(outcome(done));
      const auto [code, message] = outcome(nccl->all_gather(values.data(), values.data(), 0, Event()));
      EXPECT_EQ(code, ExitCode::peer_lost);
      EXPECT_THAT(message,
                  HasSubstr("rank 1, reduce_scatter number 0 of 16 bytes: rank 0 has not answered for"));
    }
    static_cast<void>(outcome(control.barrier()));
  });
  EXPECT_THAT(failures, Each(std::string()));
  EXPECT_THAT(job.calls_of(1), ElementsAre("init", "init", "group", "report", "abort", "abort"));
}

TEST(NcclCommunicator, ACollectiveThatNcclIsStillStartingCanBeAbandoned) {
  FakeJob job(2);
  const auto failures = run_ranks(2, {}, [&](Communicator& control) {
    const auto nccl = join(job, control);
    if (control.rank() == 0) {
      char byte = 0;
      const Event done = nccl->broadcast(&byte, 1, 0, Event());
      const Event next = nccl->broadcast(&byte, 1, 0, done);
      std::this_thread::sleep_for(20ms);
      EXPECT_FALSE(done.ready());
      const auto began = std::chrono::steady_clock::now();
      nccl->abandon();
      EXPECT_EQ(outcome(done).first, ExitCode::peer_lost);
      EXPECT_EQ(outcome(next), outcome(done));
      EXPECT_LT(std::chrono::steady_clock::now() - began, 2s);
      EXPECT_EQ(outcome(nccl->barrier()).first, ExitCode::peer_lost);
      // Events fail before the connection is ended.
      const auto until = began + 2s;
      while (job.calls_of(0).back() != "abort" && std::chrono::steady_clock::now() < until)
        std::this_thread::sleep_for(1ms);
      EXPECT_EQ(job.calls_of(0).back(), "abort");
    }
  });
  EXPECT_EQ(failures[0], "");
}

TEST(NcclCommunicator, IsAbandonedWithItsControl) {
  FakeJob job(2);
  const auto failures = run_ranks(2, {}, [&](Communicator& control) {
    const auto nccl = join(job, control);
    if (control.rank() == 1) return;
    char byte = 0;
    const Event done = nccl->broadcast(&byte, 1, 0, Event());
    control.abandon("rank 1 has ended");
    EXPECT_EQ(outcome(done).first, ExitCode::peer_lost);
    EXPECT_THAT(outcome(done).second,
                HasSubstr("broadcast number 0 of 1 bytes: abandoned because rank 1 has ended"));
    EXPECT_EQ(nccl->abandoned(), "rank 1 has ended");
  });
  EXPECT_EQ(failures[0], "");
}

TEST(NcclCommunicator, EndingByAnExceptionAbandons) {
  FakeJob job(1);
  job.collectives_meet = false;
  const auto failures = run_ranks(1, {}, [&](Communicator& control) {
    const auto nccl = join_hanging(job, control, quick());
    char byte = 0;
    const Event done = nccl->broadcast(&byte, 1, 0, Event());
    throw std::runtime_error("out of memory");
  });
  EXPECT_EQ(failures[0], "out of memory");
  EXPECT_EQ(job.calls_of(0).back(), "abort");
}

TEST(NcclCommunicator, RefusesWrongArguments) {
  FakeJob job(1);
  const auto failures = run_ranks(1, {}, [&](Communicator& control) {
    const auto nccl = join(job, control);
    EXPECT_THROW(nccl->reduce_scatter(nullptr, nullptr, -1, Event()), Error);
    EXPECT_THROW(nccl->all_gather(nullptr, nullptr, -1, Event()), Error);
    EXPECT_THROW(nccl->broadcast(nullptr, 1, 1, Event()), Error);
    EXPECT_THROW(nccl->broadcast(nullptr, 1, -1, Event()), Error);
  });
  EXPECT_THAT(failures, Each(std::string()));
}

TEST(NcclErrors, HaveExitCodes) {
  EXPECT_EQ(nccl_exit_code(ncclRemoteError), ExitCode::peer_lost);
  EXPECT_EQ(nccl_exit_code(ncclSystemError), ExitCode::unavailable);
  EXPECT_EQ(nccl_exit_code(ncclInternalError), ExitCode::unavailable);
  EXPECT_EQ(nccl_exit_code(ncclUnhandledCudaError), ExitCode::unavailable);
  EXPECT_EQ(nccl_exit_code(ncclUnhandledCudaError, "Cuda failure 2 'out of memory'"), ExitCode::does_not_fit);
  EXPECT_EQ(nccl_exit_code(ncclInvalidArgument), ExitCode::bug);
  EXPECT_EQ(nccl_exit_code(ncclInvalidUsage), ExitCode::bug);
}

TEST(NcclErrors, OfTheSystemSayWhereToLook) {
  const NcclFunctions nccl = testing::fake_nccl();
  for (const ncclResult_t result : {ncclSystemError, ncclInternalError})
    EXPECT_THAT(nccl_error_text(nccl, result, nullptr),
                AllOf(HasSubstr("/dev/shm"), HasSubstr("NCCL_DEBUG")));
  EXPECT_THAT(nccl_error_text(nccl, ncclRemoteError, nullptr), Not(HasSubstr("/dev/shm")));
}

TEST(OneNccl, IsToldFromNoneAndTwoAndOld) {
  using Paths = std::vector<std::string>;
  EXPECT_NO_THROW(check_one_nccl(Paths{"/a/libnccl.so.2"}, 22809, 22809));
  EXPECT_NO_THROW(check_one_nccl(Paths{"/a/libnccl.so.2"}, 23004, 22809));
  EXPECT_THROW(check_one_nccl(Paths{}, 22809, 22809), Error);
  EXPECT_THROW(check_one_nccl(Paths{"/a/libnccl.so.2"}, 22703, 22809), Error);
  EXPECT_THROW(check_one_nccl(Paths{"/a/libnccl.so.2"}, 30000, 22809), Error);
  EXPECT_THAT(
      [] {
        check_one_nccl(Paths{"/a/libnccl.so.2", "/b/libnccl.so.2"}, 22809, 22809);
      },
      ::testing::ThrowsMessage<Error>(AllOf(HasSubstr("2 copies"), HasSubstr("/a/"), HasSubstr("/b/"))));
}

TEST(OneNccl, IsWhatThisProgramIsLinkedToUntilASecondOneIsLoaded) {
  EXPECT_THAT(loaded_nccl_libraries(), ElementsAre(AUTOGLM_LINKED_NCCL));
  EXPECT_NO_THROW(check_one_nccl(linked_nccl()));
  const std::unique_ptr<void, int (*)(void*)> second(dlopen(AUTOGLM_SECOND_NCCL, RTLD_NOW | RTLD_LOCAL),
                                                     dlclose);
  ASSERT_NE(second, nullptr) << dlerror();
  EXPECT_THAT([] { check_one_nccl(linked_nccl()); },
              ::testing::ThrowsMessage<Error>(HasSubstr(AUTOGLM_SECOND_NCCL)));
}

TEST(LinkedNccl, NeedsADevice) {
  if (probe_cuda().num_devices > 0) GTEST_SKIP() << "there is one";
  const auto control = make_self_communicator();
  EXPECT_THAT([&] { make_nccl_communicator(*control, 0); },
              ::testing::ThrowsMessage<AgreedError>(HasSubstr("cuda")));
}

// With a device: one rank through NCCL itself, so that the table, the streams and the start are the real
// ones.
TEST(LinkedNccl, OneRankCopiesOnTheDevice) {
  if (probe_cuda().num_devices == 0) GTEST_SKIP() << "no CUDA device";
  const auto control = make_self_communicator();
  const auto nccl = make_nccl_communicator(*control, 0);
  float* values = nullptr;
  ASSERT_EQ(cudaMalloc(&values, 64), cudaSuccess);
  const std::vector<float> mine = {1, 2, 3, 4};
  ASSERT_EQ(cudaMemcpy(values, mine.data(), 16, cudaMemcpyHostToDevice), cudaSuccess);
  const Event summed = nccl->reduce_scatter(values, values + 4, 4, Event());
  nccl->all_gather(values + 4, values + 8, 16, summed).synchronize();
  std::vector<float> result(4);
  ASSERT_EQ(cudaMemcpy(result.data(), values + 8, 16, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(result, mine);
  static_cast<void>(cudaFree(values));
}

}  // namespace
}  // namespace autoglm
