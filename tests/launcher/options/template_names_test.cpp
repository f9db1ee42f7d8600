#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "launcher/options/train_options.h"
#include "trainer/data/template_spec.h"

namespace autoglm {
namespace {

TEST(TemplateNames, HelpNamesEveryChatTemplate) {
  std::string help = TrainCommandLine().help();
  help = help.substr(help.find("--template"), help.find("--sequence-length") - help.find("--template"));
  std::replace_if(
      help.begin(), help.end(), [](char character) { return character == ',' || character == '\n'; }, ' ');
  for (const TemplateSpec& spec : builtin_templates({}))
    EXPECT_THAT(help, testing::HasSubstr(" " + spec.name + " ")) << spec.name;
}

}  // namespace
}  // namespace autoglm
