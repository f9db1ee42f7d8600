// Questions to autoglm-plan, for tests.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "launcher/plan/plan_command.h"
#include "tests/launcher/expect_error.h"
#include "tests/launcher/matches_pattern.h"

namespace autoglm {

// What stands between two texts; empty when they do not.
inline std::string between(const std::string& text, const std::string& before, const std::string& after) {
  const std::size_t start = text.find(before);
  if (start == std::string::npos) return "";
  const std::size_t from = start + before.size();
  const std::size_t end = text.find(after, from);
  return end == std::string::npos ? "" : text.substr(from, end - from);
}

struct Answer {
  std::string text;
  int exit_code = 0;
};

inline Answer ask(const std::vector<std::string>& arguments) {
  PlanCommandLine command_line;
  EXPECT_EQ(command_line.parse(arguments), OptionRequest::run);
  Answer answer;
  answer.text = answer_plan(command_line.options(), {}, answer.exit_code);
  return answer;
}

inline nlohmann::json plan(std::vector<std::string> arguments) {
  arguments.push_back("--json");
  return nlohmann::json::parse(ask(arguments).text);
}

inline std::string refusal(const std::vector<std::string>& arguments, ExitCode code = ExitCode::usage) {
  return error_of(code, [&] { ask(arguments); });
}

}  // namespace autoglm
