#include "trainer/data/text_ending.h"

#include <gtest/gtest.h>

namespace autoglm {
namespace {

const TextEnding kEnding{.tokens = {"</s>", "<|im_end|>"}, .bos = "<s>", .pad = "<pad>"};

TEST(TextEnding, ATextKeepsOneBosAndOneEnd) {
  const auto one = [](std::string_view text) { return std::string(kEnding.with_one_of_each(text)); };
  EXPECT_EQ(one("<s><s><s>a</s></s>"), "<s>a</s>");
  EXPECT_EQ(one("a</s>\n</s> \n"), "a</s>");
  EXPECT_EQ(one("a</s><pad> <pad>\n"), "a</s>");
  EXPECT_EQ(one("a</s></s><pad>"), "a</s>");
  EXPECT_EQ(one("a<|im_end|>\n</s>"), "a<|im_end|>\n</s>");
}

TEST(TextEnding, OtherTextsStayAsTheyAre) {
  for (const char* text : {"", " ", "a", "a \n", "<s>a</s>\n", "a <s><s>", "</s></s> a", "a<pad>", "<pad>"})
    EXPECT_EQ(kEnding.with_one_of_each(text), text);
  const TextEnding none;
  EXPECT_EQ(none.with_one_of_each("<s><s>a</s></s>"), "<s><s>a</s></s>");
}

TEST(TextEnding, EndsBehindWhiteSpaceCount) {
  EXPECT_TRUE(kEnding.ends_already("a</s> \n"));
  EXPECT_FALSE(kEnding.ends_already("a</s>b"));
  EXPECT_FALSE(kEnding.ends_already(""));
}

}  // namespace
}  // namespace autoglm
