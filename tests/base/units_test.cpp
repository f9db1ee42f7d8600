#include "base/units.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace autoglm {
namespace {

TEST(Units, ParsesSizesAsPeopleWriteThem) {
  EXPECT_EQ(parse_bytes("40GB", "--memory-limit"), 40'000'000'000);
  EXPECT_EQ(parse_bytes("40GiB", "--memory-limit"), 42'949'672'960);
  EXPECT_EQ(parse_bytes("1.5 GiB", "--memory-limit"), 1'610'612'736);
  EXPECT_EQ(parse_bytes("1024", "--memory-limit"), 1024);
}

TEST(Units, RefusesWhatIsNotASize) {
  for (const char* text : {"", "GB", "-1GB", "40gb!", "nan", "inf", "1e300GB", "4O GB"}) {
    try {
      parse_bytes(text, "--memory-limit");
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      EXPECT_NE(std::string(error.what()).find("--memory-limit"), std::string::npos);
    }
  }
}

TEST(Units, FormatsForReading) {
  EXPECT_EQ(format_bytes(17), "17 B");
  EXPECT_EQ(format_bytes(3 << 20), "3.0 MiB");
  EXPECT_EQ(format_bytes(42'949'672'960), "40.00 GiB");
  EXPECT_EQ(format_count(7), "7");
  EXPECT_EQ(format_count(999.6), "1,000");
  EXPECT_EQ(format_count(22'471), "22,471");
  EXPECT_EQ(format_count(1'234'567), "1,234,567");
  EXPECT_EQ(format_count(-123), "-123");
  EXPECT_EQ(format_duration(3725), "1h02m");
  EXPECT_EQ(format_duration(0.42), "0.4s");
  EXPECT_DOUBLE_EQ(parse_duration("1.5h", "--stop-after").count(), 5400);
}

}  // namespace
}  // namespace autoglm
