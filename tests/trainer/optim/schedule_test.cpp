#include "trainer/optim/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"

namespace autoglm {
namespace {

// Ten steps, two of warm-up, peak 4: the whole curve by hand.
std::vector<double> curve(ScheduleKind kind, std::int64_t warmup = 2) {
  const LearningRateSchedule schedule{kind, 4, warmup, 10};
  std::vector<double> rates;
  for (std::int64_t step = 1; step <= 10; ++step) rates.push_back(schedule.learning_rate(step));
  return rates;
}

TEST(ScheduleTest, ValuesByHand) {
  using ::testing::DoubleEq;
  using ::testing::ElementsAre;
  EXPECT_THAT(curve(ScheduleKind::constant), ElementsAre(2, 4, 4, 4, 4, 4, 4, 4, 4, 4));
  EXPECT_THAT(curve(ScheduleKind::linear), ElementsAre(2, 4, 4, 3.5, 3, 2.5, 2, 1.5, 1, 0.5));
  EXPECT_THAT(curve(ScheduleKind::linear, 0),
              ElementsAre(4, DoubleEq(3.6), DoubleEq(3.2), DoubleEq(2.8), DoubleEq(2.4), 2, DoubleEq(1.6),
                          DoubleEq(1.2), DoubleEq(0.8), DoubleEq(0.4)));
  const std::vector<double> wsd = curve(ScheduleKind::wsd);
  EXPECT_THAT(std::vector(wsd.begin(), wsd.begin() + 9), ElementsAre(2, 4, 4, 4, 4, 4, 4, 4, 4));
  EXPECT_DOUBLE_EQ(wsd[9], 2.5);
  const std::vector<double> cosine = curve(ScheduleKind::cosine);
  EXPECT_THAT(std::vector(cosine.begin(), cosine.begin() + 3), ElementsAre(2, 4, 4));
  EXPECT_NEAR(cosine[4], 2 + std::sqrt(2.0), 1e-12);  // a quarter
  EXPECT_NEAR(cosine[6], 2, 1e-12);                   // half
  EXPECT_NEAR(cosine[8], 2 - std::sqrt(2.0), 1e-12);  // three quarters
  EXPECT_NEAR(cosine[9], 2 * (1 + std::cos(7 * 3.14159265358979 / 8)), 1e-12);
}

TEST(ScheduleTest, IsDefinedForTheShortestRuns) {
  for (const ScheduleKind kind :
       {ScheduleKind::cosine, ScheduleKind::linear, ScheduleKind::constant, ScheduleKind::wsd}) {
    EXPECT_EQ((LearningRateSchedule{kind, 4, 0, 1}.learning_rate(1)), 4);
    EXPECT_EQ((LearningRateSchedule{kind, 4, 1, 1}.learning_rate(1)), 4);
    EXPECT_EQ((LearningRateSchedule{kind, 4, 3, 3}.learning_rate(3)), 4);
  }
}

TEST(ScheduleTest, WarmupIsAFractionOrANumberOfSteps) {
  EXPECT_EQ(warmup_steps(0, 100), 0);
  EXPECT_EQ(warmup_steps(0.03, 100), 3);
  EXPECT_EQ(warmup_steps(0.03, 10), 0);
  EXPECT_EQ(warmup_steps(0.999, 10), 10);
  EXPECT_EQ(warmup_steps(1, 10), 1);
  EXPECT_EQ(warmup_steps(10, 10), 10);
}

TEST(ScheduleTest, RefusesAnImpossibleWarmup) {
  const auto sentence = [](double warmup) -> std::string {
    try {
      return fmt::format("{}", warmup_steps(warmup, 10));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      return error.what();
    }
  };
  EXPECT_THAT(sentence(-0.1), ::testing::HasSubstr("--warmup is -0.1"));
  EXPECT_THAT(sentence(std::nan("")), ::testing::HasSubstr("--warmup is nan"));
  EXPECT_THAT(sentence(2.5), ::testing::HasSubstr("must be whole"));
  EXPECT_THAT(sentence(11), ::testing::HasSubstr("the run has only 10"));
  EXPECT_THAT(sentence(std::numeric_limits<double>::infinity()), ::testing::HasSubstr("--warmup"));
}

}  // namespace
}  // namespace autoglm
