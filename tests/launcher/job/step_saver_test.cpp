// When a save that failed is tried again.
#include "launcher/job/step_saver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "sharding/memory/job_memory.h"
#include "tests/launcher/temporary_folder.h"
#include "tests/trainer/engine/tiny_model.h"

namespace autoglm {
namespace {

using std::chrono::milliseconds;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr auto kRetry = milliseconds(200);

class StepSaverTest : public ::testing::Test {
 protected:
  StepSaverTest() {
    EngineOptions options;
    options.row_length = 32;
    options.saves_states = true;
    engine_ = std::make_unique<Engine>(model_, options, *ranks_);
    tiny::load_random(*engine_);
  }

  void make_saver(SaveInterval interval) {
    StepSaver::Setup setup{StepStore(runs_, std::string(32, 'a')), interval, 1, false, std::int64_t{1} << 40};
    setup.first_retry_seconds = std::chrono::duration<double>(kRetry).count();
    setup.progress = [](std::int64_t) { return nlohmann::ordered_json::object(); };
    setup.make_durable = [] {};
    setup.report = [this](const SaveReport& one) { told_.push_back(one); };
    saver_ = std::make_unique<StepSaver>(std::move(setup), *engine_, *ranks_, stop_);
  }

  // Steps until one more save is told of, or the time is over; returns how long that took.
  std::optional<milliseconds> time_to_next(milliseconds most) {
    const auto start = std::chrono::steady_clock::now();
    const std::size_t before = told_.size();
    while (told_.size() == before) {
      const auto passed = std::chrono::steady_clock::now() - start;
      if (passed > most) return std::nullopt;
      StepVotes votes;
      saver_->vote(++step_, votes);
      saver_->before_update(step_);
      EXPECT_FALSE(saver_->end_of_step(step_, votes));
      std::this_thread::sleep_for(milliseconds(1));
    }
    return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - start);
  }

  Model model_ = make_model(tiny::config_of({}));
  std::unique_ptr<Communicator> ranks_ = make_self_communicator();
  std::unique_ptr<Engine> engine_;
  TemporaryFolder folder_;
  std::filesystem::path runs_ = folder_.path() / "runs";
  StopRequest stop_{std::nullopt};
  std::vector<SaveReport> told_;
  std::unique_ptr<StepSaver> saver_;
  std::int64_t step_ = 0;
};

TEST_F(StepSaverTest, ASaveThatFailedIsTriedAgainAfterAWhileThenAfterTwiceThat) {
  make_saver({false, 1'000'000, {}});
  step_ = 999'999 - 1;  // the next but one is due, and there is no folder for it
  ASSERT_TRUE(time_to_next(milliseconds(5000)));
  EXPECT_THAT(told_.back().failure, Not(IsEmpty()));
  EXPECT_GE(time_to_next(milliseconds(5000)), kRetry - milliseconds(50));
  EXPECT_THAT(told_.back().failure, Not(IsEmpty()));
  std::filesystem::create_directory(runs_);
  EXPECT_GE(time_to_next(milliseconds(5000)), 2 * kRetry - milliseconds(50));
  EXPECT_THAT(told_.back().failure, IsEmpty());
  EXPECT_THAT(list_step_folders(runs_), ::testing::SizeIs(1));
  EXPECT_EQ(time_to_next(4 * kRetry), std::nullopt);
}

}  // namespace
}  // namespace autoglm
