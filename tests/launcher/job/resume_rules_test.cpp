#include "launcher/job/resume_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "launcher/options/train_options.h"
#include "tests/launcher/expect_error.h"

namespace autoglm {
namespace {

nlohmann::ordered_json defaults() {
  TrainOptions options;
  options.training.loop.steps.reset();
  return to_json(options);
}

// Of every option there is, which may differ and what that means: a new one must be thought about.
TEST(ResumeRules, EveryOptionHasAnEffect) {
  const std::set<std::string> result = {
      "template",  "sequence-length", "validation", "loss-on",      "eot",           "packing",
      "overlong",  "epochs",          "steps",      "global-batch", "learning-rate", "schedule",
      "warmup",    "weight-decay",    "adam-beta1", "adam-beta2",   "adam-eps",      "clip",
      "precision", "freeze",          "seed"};
  const std::set<std::string> last_bits = {"device",   "micro-batch",    "head-chunks",
                                           "products", "gradient-dtype", "moment-dtype",
                                           "reduce",   "reduce-scatter", "reduce-dtype"};
  const nlohmann::ordered_json before = defaults();
  for (const auto& [option, value] : before.items()) {
    nlohmann::ordered_json now = before;
    now[option] = "another";
    const std::vector<OptionChange> changes = option_changes(before, now);
    if (!result.contains(option) && !last_bits.contains(option)) {
      EXPECT_TRUE(changes.empty()) << option;
      continue;
    }
    ASSERT_EQ(changes.size(), 1U) << option;
    EXPECT_EQ(changes[0].option, option);
    EXPECT_EQ(changes[0].effect, result.contains(option) ? ChangeEffect::result : ChangeEffect::last_bits)
        << option;
  }
}

TEST(ResumeRules, ChangesAreNamedWithBothValues) {
  const nlohmann::ordered_json before = {
      {"seed", 42}, {"steps", nullptr}, {"schedule", "cosine"}, {"clip", 1.0}};
  nlohmann::ordered_json now = before;
  now["seed"] = 43;
  now["steps"] = 100;
  now["schedule"] = "linear";
  EXPECT_EQ(describe_changes(option_changes(before, now)),
            "--seed was 42 and is 43; --steps was not set and is 100; --schedule was cosine and is linear");
  EXPECT_TRUE(option_changes(before, before).empty());
}

TEST(ResumeRules, AnOptionThatTheCheckpointDoesNotKnowIsAsItIs) {
  EXPECT_TRUE(option_changes({{"seed", 42}}, {{"seed", 42}, {"clip", 2.0}}).empty());
}

TEST(ResumeRules, RecordsOfTrainingHaveWhatIsReadOfThem) {
  const nlohmann::ordered_json good = {{"options", {{"output", "o"}}},
                                       {"strategy", {{"micro_batch", 2}, {"head_chunks", 8}}},
                                       {"data", {{"fingerprint", "x"}, {"epoch", 0}, {"rows_done", 8}}},
                                       {"model", {{"fingerprint", ""}}},
                                       {"report",
                                        {{"metrics_bytes", 5},
                                         {"tokens", 6},
                                         {"seconds", 1.5},
                                         {"first_loss", 2.5},
                                         {"last_loss", nullptr},
                                         {"first_validation_loss", nullptr},
                                         {"last_validation_loss", nullptr},
                                         {"memory_events", nlohmann::ordered_json::array()}}},
                                       {"best", nullptr}};
  check_training_record(good, "manifest.json");
  nlohmann::ordered_json best = good;
  best["best"] = {{"step", 5}, {"validation_loss", 1.5}};
  check_training_record(best, "manifest.json");
  const nlohmann::ordered_json nothing;
  for (const auto& [pointer, value] : std::multimap<std::string, nlohmann::ordered_json>{
           {"/options", 5},
           {"/options", nothing},
           {"/options/output", 5},
           {"/strategy", nothing},
           {"/strategy/micro_batch", "2"},
           {"/strategy/micro_batch", 0},
           {"/strategy/head_chunks", 1.5},
           {"/data/fingerprint", 5},
           {"/data/rows_done", -1},
           {"/model/config", 5},
           {"/model", nlohmann::ordered_json::array()},
           {"/model/fingerprint", nothing},
           {"/products", 5},
           {"/ranks", "two"},
           {"/report", 5},
           {"/report", {{"metrics_bytes", 5}}},
           {"/report/tokens", nothing},
           {"/report/last_loss", "x"},
           {"/report/seconds", nothing},
           {"/best", 5},
           {"/best", {{"step", -1}, {"validation_loss", 1}}},
           {"/best", {{"step", 1}, {"validation_loss", nothing}}},
       }) {
    nlohmann::ordered_json record = good;
    record[nlohmann::ordered_json::json_pointer(pointer)] = value;
    EXPECT_THAT(error_of(ExitCode::bad_data, [&] { check_training_record(record, "manifest.json"); }),
                testing::HasSubstr("manifest.json"))
        << pointer;
  }
  EXPECT_THAT(error_of(ExitCode::bad_data, [&] { check_training_record(nothing, "manifest.json"); }),
              testing::HasSubstr("manifest.json"));
}

TEST(ResumeRules, KindsOfStatesAreThoseOfAJob) {
  const Manifest::Kind master{"master", DType::float32}, first{"moment1", DType::bfloat16},
      second{"moment2", DType::bfloat16};
  Manifest manifest;
  for (const auto& good : {std::vector{master}, std::vector{master, first, second}}) {
    manifest.kinds = good;
    check_kinds(manifest, "manifest.json");
  }
  for (const auto& bad :
       {std::vector<Manifest::Kind>{}, std::vector{Manifest::Kind{"master", DType::bfloat16}},
        std::vector{master, first}, std::vector{master, second},
        std::vector{master, first, {"moment2", DType::float32}},
        std::vector{master, first, second, {"more", DType::float32}}}) {
    manifest.kinds = bad;
    EXPECT_THAT(error_of(ExitCode::bad_data, [&] { check_kinds(manifest, "manifest.json"); }),
                testing::HasSubstr("kinds of states"));
  }
}

}  // namespace
}  // namespace autoglm
