#include "launcher/job/saving_plan.h"

#include <gtest/gtest.h>

#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <iostream>
#include <memory>
#include <string>

#include "base/error.h"

namespace autoglm {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

SavingQuestion question(double seconds, std::optional<std::uint64_t> free) {
  return {seconds, 10 * kGiB, 2 * kGiB, free};
}

// An estimate is no bound.
TEST(SavingPlan, IsEvery15MinutesHoweverShortTheRunIsToBe) {
  EXPECT_EQ(plan_saving({}, question(1, 100 * kGiB)).interval, (SaveInterval{false, {}, 900}));
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

TEST(SavingPlan, MissingRoomIsWorthAWarningInALongRun) {
  for (const double seconds : {899, 901}) {
    ::testing::internal::CaptureStdout();
    const auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(std::cout);
    const auto before = spdlog::default_logger();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("", sink));
    EXPECT_EQ(plan_saving({}, question(seconds, 22 * kGiB)).keep, 1);
    EXPECT_FALSE(plan_saving({}, question(seconds, kGiB)).interval.seconds);
    spdlog::set_default_logger(before);
    const std::string said = ::testing::internal::GetCapturedStdout();
    EXPECT_EQ(said.find("1 and not 2 checkpoints stay") != std::string::npos, seconds > 900) << said;
    EXPECT_EQ(said.find("no checkpoints: ") != std::string::npos, seconds > 900) << said;
  }
}

TEST(SavingPlan, ItsOwnCheckpointsMakeRoomForNewOnes) {
  SavingOptions options;
  options.save_every = {false, 100, {}};
  SavingQuestion asked = question(1e5, 12 * kGiB);
  EXPECT_THROW(plan_saving(options, asked), Error);
  asked.replaced = 20 * kGiB;
  EXPECT_EQ(plan_saving(options, asked).interval.steps, 100);
  asked.free = 11 * kGiB;
  EXPECT_THROW(plan_saving(options, asked), Error);
  EXPECT_EQ(plan_saving({}, asked).keep, 1);
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
