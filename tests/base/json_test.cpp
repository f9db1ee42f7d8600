#include "base/json.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/launcher/expect_error.h"
#include "tests/launcher/temporary_folder.h"

namespace autoglm {
namespace {

using ::testing::HasSubstr;

std::string problem(const std::string& text) {
  try {
    parse_json(text);
  } catch (const JsonError& error) {
    return error.what();
  }
  return "nothing wrong";
}

std::string refusal(const std::string& text) {
  return error_of(ExitCode::bad_data, [&] { parse_json(text, "config.json"); });
}

TEST(Json, ParsesWhatIsValid) {
  EXPECT_EQ(parse_json(R"( {"a": [1, -2.5, "x\u00e9", null, true], "b": {"a": {}}} )")["a"][2], "x\xC3\xA9");
  // The same key on another level, or in a sibling, is no duplicate.
  EXPECT_EQ(parse_json(R"({"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]})")["b"][1]["a"], 3);
  const std::string text = R"({"a": [1, -2, 3.5, true, null, {"b": "\u00e4\n"}, []], "c": {}, "d": ""})";
  EXPECT_EQ(parse_json(text), nlohmann::json::parse(text));
}

TEST(Json, SaysWhatIsWrong) {
  EXPECT_THAT(problem("{\"text\": \"a\""), HasSubstr("not valid JSON"));
  EXPECT_THAT(problem("{\"text\": \"a\"} x"), HasSubstr("not valid JSON"));
  EXPECT_THAT(problem("{\"text\": \"\xff\"}"), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(problem("{\"text\": \"\xed\xa0\x80\"}"), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(problem("{\"text\": \"\\ud800\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(problem("{\"text\": \"a\", \"text\": \"b\"}"), HasSubstr("\"text\" is given twice"));
  EXPECT_THAT(problem("{\"a\": {\"b\": 1, \"b\": 2}, \"text\": \"a\"}"), HasSubstr("\"b\" is given twice"));
  EXPECT_THAT(problem(""), HasSubstr("not valid JSON"));
  // What the library takes for the end would hide the rest of a line.
  EXPECT_THAT(problem(std::string("{}\0{", 4)), HasSubstr("a NUL byte"));
  EXPECT_THAT(problem("\xEF\xBB\xBF{}"), HasSubstr("byte order mark"));
}

TEST(Json, SaysWhere) {
  try {
    parse_json("{\"a\": 1, oops}");
    FAIL();
  } catch (const JsonError& error) {
    EXPECT_EQ(error.offset(), 10U);
  }
}

TEST(Json, RefusesFilesWithThePlace) {
  EXPECT_THAT(refusal("{\"a\": 1,\n}"),
              HasSubstr("config.json:2:1: is not valid JSON: a comma stands before"));
  EXPECT_THAT(refusal("{ // mine\n}"), HasSubstr("config.json:1:3: is not valid JSON: JSON has no comments"));
  EXPECT_THAT(refusal("{'a': 1}"), HasSubstr("stand in double quotes"));
  EXPECT_THAT(refusal(""), HasSubstr("it is empty"));
  EXPECT_THAT(refusal("version https://git-lfs.github.com/spec/v1\n"), HasSubstr("git lfs pull"));
  EXPECT_THAT(refusal("{\n  \"a\": 1,\n  \"b\": }\n"), HasSubstr("config.json:3:8: is not valid JSON"));
  EXPECT_THAT(refusal("{\"a\": 1, \"a\": 2}"), HasSubstr("config.json: holds the key \"a\" twice"));
  EXPECT_THAT(refusal("{\"x\": [{\"a\": 1, \"b\": 0, \"a\": 2}]}"), HasSubstr("\"a\" twice"));
  EXPECT_THAT(refusal("{\"a\": 1, \"\\u0061\": 2}"), HasSubstr("\"a\" twice"));
  EXPECT_THAT(refusal(std::string("{}\0{", 4)), HasSubstr("config.json:1:3: holds a NUL byte"));
  EXPECT_THAT(refusal("\xEF\xBB\xBF{}"), HasSubstr("config.json:1:1: starts with a byte order mark"));
  EXPECT_THAT(refusal("{\"a\": 1e999}"), HasSubstr("too large"));
  for (const char* text :
       {"", " ", "{\"a\": NaN}", "{\"a\": Infinity}", "{\"a\": \"\xFF\"}", "{\"a\": 1,}", "{} {}", "{'a': 1}",
        "{\"a\": 01}", "{\"a\": \"\n\"}", "{\"a\": \"\\ud800\"}", "[1, 2", "{\"a\""}) {
    refusal(text);
  }
}

TEST(Json, BoundsNesting) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(problem(nested(64)), "nothing wrong");
  EXPECT_THAT(problem(nested(65)), HasSubstr("more than 64 nested"));
  EXPECT_THAT(problem(std::string(1'000'000, '[')), HasSubstr("more than 64 nested"));
  EXPECT_THAT(refusal(nested(65)), HasSubstr("64 deep"));
}

TEST(Json, ReadsFiles) {
  const TemporaryFolder folder;
  EXPECT_EQ(read_json_file(folder.write("good.json", "[1]\n")), nlohmann::json::array({1}));
  const std::string broken = folder.write("broken.json", "[1\n,}");
  EXPECT_EQ(error_of(ExitCode::bad_data, [&] { read_json_file(broken); }),
            broken + ":2:2: is not valid JSON: a comma stands before a closing bracket; take that comma out");
  EXPECT_THAT(error_of(ExitCode::missing_input, [&] { read_json_file(folder.path() / "none.json"); }),
              HasSubstr("none.json: cannot be read"));
  EXPECT_THAT(error_of(ExitCode::bad_data, [&] { read_json_file(folder.path()); }),
              HasSubstr("is not a regular file"));
  EXPECT_THAT(error_of(ExitCode::bad_data, [] { read_json_file("/dev/zero"); }),
              HasSubstr("is not a regular file"));
}

}  // namespace
}  // namespace autoglm
