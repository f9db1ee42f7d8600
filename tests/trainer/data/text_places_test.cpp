#include "trainer/data/text_places.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

namespace autoglm {
namespace {

class TextPlacesTest : public ::testing::Test {
 protected:
  // What stands in `rendered` of each text, and between them; "no" when that cannot be told. %0 stands for a mark.
  std::string found(std::string rendered, std::string pattern, std::vector<std::string_view> texts) {
    const Marks marks(texts, texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const std::string name = fmt::format("%{}", i);
      for (std::size_t at; (at = pattern.find(name)) != std::string::npos;)
        pattern.replace(at, name.size(), marks[i]);
    }
    const auto places = find_places(rendered, pattern, texts, marks);
    if (!places) return "no";
    std::string words;
    for (const auto& place : *places) {
      words += place ? rendered.substr(place->markup_begin, place->begin - place->markup_begin) + "(" +
                           rendered.substr(place->begin, place->end - place->begin) + ")" +
                           rendered.substr(place->end, place->markup_end - place->end) + ";"
                     : "none;";
    }
    return words;
  }
};

TEST_F(TextPlacesTest, TextsAsTheyAreAndWithoutWhiteSpaceAtTheirEnds) {
  EXPECT_EQ(found("<u>a </u><b>b</b>", "<u>%0</u><b>%1</b>", {"a ", "b"}), "<u>(a )</u><b>;</u><b>(b)</b>;");
  EXPECT_EQ(found("<a>|b|c ", "<%0>|%1|%2", {" a\n", "b", "\tc "}), "<(a)>|;>|(b)|;|(c );");
  EXPECT_EQ(found("a|", "%0|%1", {"a", ""}), "(a)|;|();");
  // In another order.
  EXPECT_EQ(found("<b><a>", "<%1><%0>", {"a", "b"}), "><(a)>;<(b)><;");
}

TEST_F(TextPlacesTest, ManyTexts) {
  std::vector<std::string> texts;
  std::string rendered, pattern, wanted;
  for (int i = 0; i < 10; ++i) {
    texts.push_back(std::string(static_cast<std::size_t>(i), 'x'));
    rendered += "|" + texts.back() + "|";
    pattern += "|%" + std::to_string(i) + "|";
    wanted += (i > 0 ? "||(" : "|(") + texts.back() + (i < 9 ? ")||;" : ")|;");
  }
  EXPECT_EQ(found(rendered, pattern, {texts.begin(), texts.end()}), wanted);
}

TEST_F(TextPlacesTest, WhatIsInDoubtIsNotTold) {
  EXPECT_EQ(found("<a>", "<%0>", {"think a"}), "no");   // the template left something out
  EXPECT_EQ(found("<a>.", "<%0>", {"a"}), "no");        // the markup depends on the text
  EXPECT_EQ(found("<a><a>", "<%0><%0>", {"a"}), "no");  // it stands there twice
  EXPECT_EQ(found("<a>", "<a>", {"a"}), "none;");       // its mark was not written
  EXPECT_EQ(found("<a\xEE\x80\x90>", "<%0>", {"a\xEE\x80\x90"}), "<(a\xEE\x80\x90)>;");
}

TEST_F(TextPlacesTest, OneTextByWhatDiffers) {
  const Marks marks({}, 1);
  const auto found = [&](const std::string& rendered, const std::string& before,
                         const std::string& after) -> std::string {
    const auto place = find_difference(rendered, before + marks[0] + after, marks[0]);
    return place ? rendered.substr(0, place->begin) + "(" +
                       rendered.substr(place->begin, place->end - place->begin) + ")"
                 : "none";
  };
  EXPECT_EQ(found("<ab>", "<", ">"), "<(ab)");
  EXPECT_EQ(found("<>", "<", ">"), "<()");
  EXPECT_EQ(found("aaaa", "a", "a"), "a(aa)");
  // A character that begins with the same byte as a mark is not cut in two.
  EXPECT_EQ(found("<\xEE\xBC\x81\xEE\xBC\x90>", "<", ">"), "<(\xEE\xBC\x81\xEE\xBC\x90)");
  // An empty text that was left out with its markup.
  EXPECT_EQ(found("<a><c>", "<a><b", "><c>"), "none");
  EXPECT_FALSE(find_difference("<a>", "<a>", marks[0]));
}

}  // namespace
}  // namespace autoglm
