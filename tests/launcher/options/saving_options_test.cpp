#include "launcher/options/saving_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "launcher/options/train_options.h"

namespace autoglm {
namespace {

using ::testing::HasSubstr;

SavingOptions parsed(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"--model", "m", "--data", "d.jsonl", "--output", "o"});
  TrainCommandLine line;
  line.parse(arguments);
  return line.options().saving;
}

std::string refusal(const std::vector<std::string>& arguments) {
  try {
    parsed(arguments);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  return "";
}

TEST(SavingOptions, IntervalsAreStepsOrTimes) {
  EXPECT_TRUE(parsed({}).save_every.automatic);
  EXPECT_EQ(parsed({"--save-every", "auto"}).save_every, SaveInterval());
  EXPECT_EQ(parsed({"--save-every", "500"}).save_every, (SaveInterval{false, 500, {}}));
  EXPECT_EQ(parsed({"--save-every", "1.5h"}).save_every, (SaveInterval{false, {}, 5400}));
  EXPECT_EQ(parsed({"--save-every", "never"}).save_every, (SaveInterval{false, {}, {}}));
  EXPECT_THAT(refusal({"--save-every", "0"}), HasSubstr("--save-every takes steps from 1 on"));
  EXPECT_THAT(refusal({"--save-every", "soon"}), HasSubstr("--save-every"));
  EXPECT_EQ(parsed({"--stop-after", "90m"}).stop_after, 5400);
}

TEST(SavingOptions, AreWrittenDownSoThatTheyCanBeReadAgain) {
  for (const std::string interval : {"auto", "never", "17", "90s", "5400s"}) {
    TrainCommandLine line;
    line.parse({"--model", "m", "--data", "d.jsonl", "--output", "o", "--save-every", interval,
                "--stop-after", "2.5s"});
    const nlohmann::ordered_json json = to_json(line.options());
    EXPECT_EQ(json["save-every"], interval);
    EXPECT_EQ(json["stop-after"], "2.5s");
    EXPECT_EQ(parsed({"--save-every", json["save-every"]}).save_every, line.options().saving.save_every);
  }
}

TEST(SavingOptions, TheBestNeedsAValidationSetAndItsCheckpoint) {
  EXPECT_THAT(refusal({"--keep-best"}),
              HasSubstr("--keep-best goes by the validation loss; give --validation"));
  EXPECT_THAT(refusal({"--export", "best", "--validation", "0.1"}), HasSubstr("--keep-best"));
  EXPECT_TRUE(parsed({"--keep-best", "--validation", "0.1", "--export", "best"}).keep_best);
  EXPECT_THAT(refusal({"--keep", "0"}), HasSubstr("--keep"));
}

}  // namespace
}  // namespace autoglm
