#include "launcher/job/saving_plan.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace autoglm {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

SavingQuestion question(double seconds, std::optional<std::uint64_t> free) {
  return {seconds, 10 * kGiB, 2 * kGiB, free};
}

TEST(SavingPlan, LongRunsAreSavedEvery15Minutes) {
  EXPECT_EQ(plan_saving({}, question(899, 100 * kGiB)).interval, (SaveInterval{false, {}, {}}));
  EXPECT_EQ(plan_saving({}, question(901, 100 * kGiB)).interval, (SaveInterval{false, {}, 900}));
  EXPECT_EQ(plan_saving({}, question(901, {})).keep, 2);
}

TEST(SavingPlan, KeepsWhatTheDiskHoldsWhereNobodyAskedForMore) {
  EXPECT_EQ(plan_saving({}, question(1e5, 32 * kGiB)).keep, 2);
  EXPECT_EQ(plan_saving({}, question(1e5, 32 * kGiB - 1)).keep, 1);
  EXPECT_EQ(plan_saving({}, question(1e5, 22 * kGiB)).interval.seconds, 900);
  EXPECT_EQ(plan_saving({}, question(1e5, 22 * kGiB - 1)).interval, (SaveInterval{false, {}, {}}));
  EXPECT_EQ(plan_saving({}, question(1e5, kGiB)).interval, (SaveInterval{false, {}, {}}));
}

TEST(SavingPlan, TheBestOneTakesRoomToo) {
  SavingOptions options;
  options.keep_best = true;
  EXPECT_EQ(plan_saving(options, question(1e5, 42 * kGiB)).keep, 2);
  EXPECT_EQ(plan_saving(options, question(1e5, 41 * kGiB)).keep, 1);
}

TEST(SavingPlan, WhatWasAskedForMustFit) {
  SavingOptions options;
  options.save_every = {false, 100, {}};
  EXPECT_EQ(plan_saving(options, question(1, 32 * kGiB)).interval.steps, 100);
  try {
    plan_saving(options, question(1, 31 * kGiB));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::cannot_create);
    EXPECT_NE(std::string(error.what()).find("3 checkpoints of 10.00 GiB"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace autoglm
