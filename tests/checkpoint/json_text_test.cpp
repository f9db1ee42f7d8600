#include "checkpoint/json_text.h"

#include <gtest/gtest.h>

#include <string>

namespace autoglm {
namespace {

TEST(JsonText, LocatesValues) {
  const std::string text =
      "{ \"s\" : \"a\\\"}{,b\" , \"nested\":{\"dtype\":\"no\", \"l\":[1,{\"k\":[2]}, \"]\"]},\n\t\"dtype\" "
      ":\"bfloat16\",\"n\":"
      "-1.5e3}";
  const auto at = [&](std::initializer_list<std::string_view> path) -> std::string {
    const auto range = locate_json_value(text, path);
    return range ? text.substr(range->begin, range->end - range->begin) : "(none)";
  };
  EXPECT_EQ(at({"dtype"}), "\"bfloat16\"");
  EXPECT_EQ(at({"nested", "dtype"}), "\"no\"");
  EXPECT_EQ(at({"nested", "l"}), "[1,{\"k\":[2]}, \"]\"]");
  EXPECT_EQ(at({"nested"}), "{\"dtype\":\"no\", \"l\":[1,{\"k\":[2]}, \"]\"]}");
  EXPECT_EQ(at({"s"}), "\"a\\\"}{,b\"");
  EXPECT_EQ(at({"n"}), "-1.5e3");
  EXPECT_EQ(at({"k"}), "(none)");
  EXPECT_EQ(at({"n", "k"}), "(none)");
  EXPECT_EQ(at({"nested", "k"}), "(none)");
  EXPECT_FALSE(locate_json_value("{}", {"a"}));
  const std::string escaped = R"({"\u0062": 1, "eos_\u0074oken_id": 2, "a\"": {"\u00e9": 3}})";
  const auto value_in_escaped = [&](std::initializer_list<std::string_view> path) {
    const auto range = locate_json_value(escaped, path);
    return range ? escaped.substr(range->begin, range->end - range->begin) : "(none)";
  };
  EXPECT_EQ(value_in_escaped({"eos_token_id"}), "2");
  EXPECT_EQ(value_in_escaped({"a\"", "\xC3\xA9"}), "3");
  EXPECT_EQ(value_in_escaped({"eos_\\u0074oken_id"}), "(none)");
  EXPECT_FALSE(locate_json_value(" [1]", {"a"}));
}

}  // namespace
}  // namespace autoglm
