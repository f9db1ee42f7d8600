#include "launcher/options/ini_file.h"

#include <fstream>
#include <string>

#include "tests/launcher/expect_error.h"
#include "tests/launcher/temporary_folder.h"

namespace autoglm {
namespace {

TEST(IniFile, ReadsNamesValuesAndLines) {
  const auto entries = parse_ini(
      "\xEF\xBB\xBF# a comment\r\n\n  learning-rate=3e-4  # as measured\r\n; another\nmodel = my#model dir\n",
      "x.ini");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].name, "learning-rate");
  EXPECT_EQ(entries[0].value, "3e-4");
  EXPECT_EQ(entries[0].line, 3);
  EXPECT_EQ(entries[1].value, "my#model dir");
  EXPECT_EQ(entries[1].line, 5);
}

TEST(IniFile, TakesQuotedValuesAsTheyStand) {
  const auto entries =
      parse_ini("sample = \" What is # 1? \" # asked\nsample = Say \"hi\" twice\nsample = \"", "x.ini");
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].value, " What is # 1? ");
  EXPECT_TRUE(entries[0].enclosed);
  EXPECT_EQ(entries[1].value, "Say \"hi\" twice");
  EXPECT_FALSE(entries[1].enclosed);
  EXPECT_EQ(entries[2].value, "\"");
}

TEST(IniFile, KeepsAnEqualsSignInTheValue) {
  EXPECT_EQ(parse_ini("sample = 1+1=?", "x.ini").at(0).value, "1+1=?");
}

TEST(IniFile, RefusesOtherLines) {
  EXPECT_EQ(error_of(ExitCode::usage, [] { parse_ini("seed = 1\nlearning-rate 3e-4", "x.ini"); }),
            "x.ini:2: expected name = value; got \"learning-rate 3e-4\"");
  EXPECT_EQ(error_of(ExitCode::usage, [] { parse_ini("= 3", "x.ini"); }),
            "x.ini:1: expected name = value; got \"= 3\"");
  EXPECT_EQ(error_of(ExitCode::usage, [] { parse_ini("\n[training]\n", "x.ini"); }),
            "x.ini:2: sections such as \"[training]\" are not used; write name = value");
}

TEST(IniFile, SaysWhyAFileCannotBeRead) {
  EXPECT_EQ(error_of(ExitCode::missing_input, [] { read_ini_file("/nonexistent/x.ini"); }),
            "--config: cannot read /nonexistent/x.ini: No such file or directory");
  EXPECT_EQ(error_of(ExitCode::missing_input, [] { read_ini_file("/tmp"); }),
            "--config: /tmp is a folder; name a file");
  EXPECT_EQ(error_of(ExitCode::missing_input, [] { read_ini_file("/dev/zero"); }),
            "--config: cannot read /dev/zero: it is not a regular file");
  const TemporaryFolder folder;
  const std::string large = folder.write("large.ini", std::string((1 << 20) + 1, '\n'));
  EXPECT_EQ(error_of(ExitCode::usage, [&] { read_ini_file(large); }),
            "--config: " + large + " is larger than 1 MiB, so it cannot be a file of settings");
}

TEST(IniFile, SplitsWordsAtBlanksOutsideQuotes) {
  EXPECT_THAT(split_words("a.jsonl  b.jsonl\tc", "--data"), testing::ElementsAre("a.jsonl", "b.jsonl", "c"));
  EXPECT_THAT(split_words("\"my file.jsonl\" b", "--data"), testing::ElementsAre("my file.jsonl", "b"));
  EXPECT_EQ(error_of(ExitCode::usage, [] { split_words("a \"b", "x.ini:3: data"); }),
            "x.ini:3: data: a double quote is not closed in \"a \"b\"");
}

class FileNamesInIniFile : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"my chats.jsonl", "a.jsonl", "it's one.jsonl"})
      std::ofstream(path(name)) << "\n";
  }
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  std::string refusal(const std::string& value) const {
    return error_of(ExitCode::missing_input,
                    [&] { check_file_names(split_words(value, "x.ini:2: data"), value, "x.ini:2: data"); });
  }
  TemporaryFolder folder_;
};

TEST_F(FileNamesInIniFile, OneNameInPiecesIsSaidToNeedQuotes) {
  const std::string whole = path("my chats.jsonl");
  EXPECT_EQ(refusal(whole),
            "x.ini:2: data: there is no file \"" + path("my") +
                "\"; the value is read as 2 names, for a name with blanks stands in double quotes, "
                "as in \"" +
                whole + "\"");
}

TEST_F(FileNamesInIniFile, SingleQuotesAndBackslashesMeanNothing) {
  EXPECT_THAT(refusal("'" + path("my chats.jsonl") + "'"),
              testing::HasSubstr("single quotes mean nothing here"));
  EXPECT_THAT(refusal(path("my\\ chats.jsonl")), testing::HasSubstr("a backslash means nothing here"));
  EXPECT_THAT(refusal(path("a.jsonl") + " " + path("her chats.jsonl")), testing::HasSubstr("double quotes"));
}

TEST(IniFile, LinesMayEndAsOnOldMacintoshes) {
  const std::vector<IniEntry> entries = parse_ini("a = 1\r# none\rb = 2\r", "x.ini");
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[1].name, "b");
  EXPECT_EQ(entries[1].value, "2");
  EXPECT_EQ(entries[1].line, 3);
}

TEST(IniFile, WhatIsNoText) {
  EXPECT_THAT(error_of(ExitCode::usage, [] { parse_ini(std::string_view("a\0 = 1", 6), "x.ini"); }),
              testing::HasSubstr("x.ini: holds NUL bytes, as a file in UTF-16 does"));
}

TEST(IniFile, SingleQuotesDoNotEncloseAValue) {
  EXPECT_THAT(error_of(ExitCode::usage,
                       [] {
                         check_quotes({"a", "'b c'"}, "x.ini:2: output");
                       }),
              testing::HasSubstr("x.ini:2: output: single quotes mean nothing here and would be part of"));
  EXPECT_NO_THROW(check_quotes({"it's", "'", "rock 'n' roll"}, "x.ini:2: sample"));
}

TEST_F(FileNamesInIniFile, WhatIsWrittenRightPasses) {
  for (const std::string& value : {path("a.jsonl"), path("a.jsonl") + " " + path("a.jsonl"),
                                   path("missing.jsonl"), path("a.jsonl") + " " + path("missing.jsonl")})
    EXPECT_NO_THROW(check_file_names(split_words(value, "data"), value, "data")) << value;
  const std::vector<std::string> one = {path("it's one.jsonl")};
  EXPECT_NO_THROW(check_file_names(one, one.front(), "data"));
}

}  // namespace
}  // namespace autoglm
