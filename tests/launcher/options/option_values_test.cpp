#include "launcher/options/option_values.h"

#include "tests/launcher/expect_error.h"

namespace autoglm {
namespace {

TEST(OptionValues, ReadWholeNumbersInTheirRange) {
  EXPECT_EQ(parse_integer("1", {1, 64}, "--x"), 1);
  EXPECT_EQ(parse_integer("64", {1, 64}, "--x"), 64);
  EXPECT_EQ(parse_integer("-3", {-5, 64}, "--x"), -3);
}

TEST(OptionValues, RefuseWhatIsNoWholeNumberOfTheRange) {
  for (const char* text : {"", "0", "65", "-1", "1.0", "1e1", " 1", "1 ", "+1", "0x1", "one", "nan",
                           "99999999999999999999999", "1,000"}) {
    EXPECT_EQ(error_of(ExitCode::usage,
                       [&] {
                         parse_integer(text, {1, 64}, "--x");
                       }),
              "--x takes a whole number from 1 to 64; got \"" + std::string(text) + "\"");
  }
  EXPECT_EQ(error_of(ExitCode::usage, [] { parse_integer("-1", {}, "--seed"); }),
            "--seed takes a whole number of at least 0; got \"-1\"");
}

TEST(OptionValues, ReadNumbersWithOpenAndClosedEnds) {
  EXPECT_DOUBLE_EQ(parse_real("1e-5", {0, 1, true}, "--x"), 1e-5);
  EXPECT_DOUBLE_EQ(parse_real("1", {0, 1, true}, "--x"), 1);
  EXPECT_DOUBLE_EQ(parse_real(".5", {0, 1}, "--x"), 0.5);
  EXPECT_EQ(error_of(ExitCode::usage,
                     [] {
                       parse_real("0", {0, 1, true}, "--x");
                     }),
            "--x takes a number above 0 and at most 1; got \"0\"");
  EXPECT_EQ(error_of(ExitCode::usage,
                     [] {
                       parse_real("1", {0, 1, false, true}, "--x");
                     }),
            "--x takes a number from 0 to below 1; got \"1\"");
}

TEST(OptionValues, RefuseWhatIsNoFiniteNumber) {
  for (const char* text : {"", "nan", "-nan", "inf", "-inf", "infinity", "1e400", "1e-400", "-0.1", "1.5",
                           "0x1p-3", "1e", "0,5", "1 ", "--"}) {
    EXPECT_EQ(error_of(ExitCode::usage,
                       [&] {
                         parse_real(text, {0, 1}, "--x");
                       }),
              "--x takes a number from 0 to 1; got \"" + std::string(text) + "\"");
  }
}

TEST(OptionValues, ReadSwitches) {
  EXPECT_TRUE(parse_switch("on", "--x"));
  EXPECT_TRUE(parse_switch("true", "--x"));
  EXPECT_FALSE(parse_switch("no", "--x"));
  EXPECT_EQ(error_of(ExitCode::usage, [] { parse_switch("maybe", "--x"); }),
            "--x takes on or off; got \"maybe\"");
}

TEST(OptionValues, QuoteTextSoThatTheSentenceStaysOneLine) {
  EXPECT_EQ(in_quotes("a\nb\x1b[2J"), "\"a\\x0ab\\x1b[2J\"");
  const std::string text = in_quotes(std::string(5000, 'x'));
  EXPECT_LT(text.size(), 140u);
  EXPECT_TRUE(text.ends_with("...\""));
  std::string umlauts;
  for (int i = 0; i < 200; ++i) umlauts += "\xC3\xBC";
  const std::string cut = in_quotes(umlauts);
  EXPECT_TRUE(cut.ends_with("\xC3\xBC...\"")) << "cut within a character: " << cut;
}

TEST(OptionValues, FormatNumbersAsPeopleWriteThem) {
  EXPECT_EQ(format_real(1e-5), "1e-5");
  EXPECT_EQ(format_real(2.5e-12), "2.5e-12");
  EXPECT_EQ(format_real(0.03), "0.03");
  EXPECT_EQ(format_real(1.0), "1");
  EXPECT_EQ(format_real(1e9), "1000000000");
}

}  // namespace
}  // namespace autoglm
