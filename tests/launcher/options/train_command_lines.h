// Command lines of autoglm-train, parsed or refused.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "launcher/options/train_options.h"
#include "tests/launcher/expect_error.h"

namespace autoglm {

inline const std::vector<std::string> kRequired = {"--model", "m", "--data", "d.jsonl", "--output", "o"};

inline std::vector<std::string> with_required(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = kRequired;
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

inline TrainOptions parsed(const std::vector<std::string>& more) {
  TrainCommandLine command_line;
  EXPECT_EQ(command_line.parse(with_required(more)), OptionRequest::run);
  return command_line.options();
}

inline std::string refusal(const std::vector<std::string>& more) {
  return error_of(ExitCode::usage, [&] {
    TrainCommandLine command_line;
    command_line.parse(with_required(more));
  });
}

class TrainOptionsFile : public testing::Test {
 protected:
  TrainOptionsFile()
      : path_(std::filesystem::temp_directory_path() /
              ("autoglm_train_" + std::to_string(getpid()) + ".ini")) {}
  ~TrainOptionsFile() override { std::filesystem::remove(path_); }
  std::vector<std::string> with_file(const std::string& text, std::vector<std::string> more = {}) {
    std::ofstream(path_) << text;
    more.insert(more.end(), {"--config", path_.string()});
    return more;
  }
  std::filesystem::path path_;
};

}  // namespace autoglm
