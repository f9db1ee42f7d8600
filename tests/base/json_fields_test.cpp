#include "base/json_fields.h"

#include <nlohmann/json.hpp>

#include "tests/launcher/expect_error.h"

namespace autoglm {
namespace {

using nlohmann::json;

const json kObject =
    json::parse(R"({"name": "a", "size": 3, "none": null, "eos": [1, 2], "on": true, "part": 0.5,
                                     "link": {"speed": -1}})");

std::string refusal(const std::function<void(const JsonFields&)>& read) {
  return error_of(ExitCode::bad_data, [&] { read(JsonFields(kObject, "config.json")); });
}

TEST(JsonFields, ReadsWhatIsThereOrTakesWhatIsGiven) {
  const JsonFields fields(kObject, "config.json");
  EXPECT_EQ(fields.text("name"), "a");
  EXPECT_EQ(fields.text("other", "b"), "b");
  EXPECT_EQ(fields.positive("size"), 3);
  EXPECT_EQ(fields.positive("none", 7), 7);
  EXPECT_EQ(fields.number("part", 1), 0.5);
  EXPECT_EQ(fields.number("none", 1), 1);
  EXPECT_TRUE(fields.flag("on", false));
  EXPECT_EQ(fields.ids("eos"), (std::vector<std::int32_t>{1, 2}));
  EXPECT_EQ(fields.ids("size"), (std::vector<std::int32_t>{3}));
  EXPECT_TRUE(fields.ids("none").empty());
  EXPECT_TRUE(fields.has("name"));
  EXPECT_FALSE(fields.has("none"));
  EXPECT_TRUE(fields.is_null("none"));
}

TEST(JsonFields, NamesFileAndField) {
  EXPECT_EQ(refusal([](auto& fields) { fields.positive("other"); }),
            "config.json: the field \"other\" is missing");
  EXPECT_EQ(refusal([](auto& fields) { fields.text("other"); }),
            "config.json: the field \"other\" is missing");
  EXPECT_EQ(refusal([](auto& fields) { fields.positive("size", {}, 2); }),
            "config.json: \"size\" is 3, not a whole number from 1 to 2");
  EXPECT_EQ(refusal([](auto& fields) { fields.flag("size", true); }),
            "config.json: \"size\" is 3, not true or false");
  EXPECT_EQ(refusal([](auto& fields) { fields.text("size", ""); }),
            "config.json: \"size\" is 3, not a string");
  EXPECT_EQ(refusal([](auto& fields) { fields.ids("name"); }),
            "config.json: \"name\" holds \"a\", not a token id");
  // -5 and 3, were the bits taken for those of a signed number, or the upper ones left out.
  for (const std::uint64_t large : {18446744073709551611U, 4294967299U}) {
    const json object = {{"id", large}};
    EXPECT_THAT(error_of(ExitCode::bad_data, [&] { JsonFields(object, "config.json").ids("id"); }),
                ::testing::HasSubstr("not a token id"));
  }
  EXPECT_EQ(refusal([](auto& fields) { fields.object("link").fraction("speed"); }),
            "config.json: \"link.speed\" is -1, not a number above 0");
  EXPECT_EQ(refusal([](auto& fields) { fields.object("name"); }), "config.json: \"name\" is not an object");
  EXPECT_EQ(error_of(ExitCode::bad_data, [] { JsonFields(json::array(), "config.json"); }),
            "config.json does not hold a JSON object");
}

TEST(JsonFields, RefusesWhatNobodyAskedFor) {
  const json object = {{"name", "a"}, {"nome", "b"}};
  const JsonFields fields(object, "config.json");
  fields.text("name");
  EXPECT_EQ(error_of(ExitCode::bad_data, [&] { fields.finish(); }),
            "config.json: the field \"nome\" is unknown; did you mean \"name\"?");
}

}  // namespace
}  // namespace autoglm
