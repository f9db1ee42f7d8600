// The hand-written scanners against the same regular expressions run by Oniguruma.
#include "trainer/data/tokenizer/pattern.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include <random>

#include "trainer/data/tokenizer/unicode_tables.h"
#include "trainer/data/tokenizer/utf8.h"

namespace autoglm {
namespace {

const char* const kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kLlama3 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
                            R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen2 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                           R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::unique_ptr<Pattern> by_oniguruma(const std::string& regex) {
  static const nlohmann::json none;
  return make_regex_pattern(regex, Field(none, "pattern", "test"));
}

std::vector<std::string> pieces_of(const Pattern& pattern, const std::string& text) {
  std::vector<Match> matches;
  if (!text.empty()) pattern.find(text, matches);
  std::vector<std::string> pieces;
  for (const Match& match : matches)
    pieces.emplace_back(match.matches ? "+" : "-").append(text, match.span.begin, match.span.size());
  return pieces;
}

std::string random_text(std::mt19937& random) {
  static const std::vector<std::string> parts = {
      "a",   "Z",  "\u00e9", "\u4f60", "'",          "'s",         "'LL",       "'\u017f",
      "'rE", "'v", "1",      "23",     "\u0661",     "\u00bd",     " ",         "  ",
      "\t",  "\n", "\r",     "\r\n",   "\u00a0",     "\u3000",     "\u2028",    "!",
      "...", "_",  "\u0301", "\u200d", "\U0001F600", "\U00031350", "\U00011DE0"};
  std::string text;
  const std::size_t count = random() % 12;
  for (std::size_t i = 0; i < count; ++i) {
    if (random() % 8 == 0) {
      char32_t c = random() % unicode::kCodePoints;
      if (c >= 0xD800 && c < 0xE000) c = 'x';
      utf8::append(text, c);
    } else {
      text += parts[random() % parts.size()];
    }
  }
  return text;
}

class KnownPattern : public testing::TestWithParam<const char*> {};

TEST_P(KnownPattern, ScansAsOnigurumaMatches) {
  const std::unique_ptr<Pattern> scanner = make_scanner_pattern(GetParam());
  ASSERT_NE(scanner, nullptr);
  const std::unique_ptr<Pattern> regex = by_oniguruma(GetParam());
  std::mt19937 random(1);
  for (int round = 0; round < 20'000; ++round) {
    const std::string text = random_text(random);
    ASSERT_EQ(pieces_of(*scanner, text), pieces_of(*regex, text)) << testing::PrintToString(text);
  }
}

TEST_P(KnownPattern, ScansEveryCodePointAsOnigurumaMatches) {
  const std::unique_ptr<Pattern> scanner = make_scanner_pattern(GetParam()), regex = by_oniguruma(GetParam());
  std::string text;
  for (char32_t c = 0; c < unicode::kCodePoints; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    text += "a";
    utf8::append(text, c);
    text += c % 2 ? "1 " : "\n";
    if (c % 4096 != 4095) continue;
    ASSERT_EQ(pieces_of(*scanner, text), pieces_of(*regex, text)) << "near " << static_cast<std::uint32_t>(c);
    text.clear();
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, KnownPattern, testing::Values(kGpt2, kLlama3, kQwen2));

TEST(Pattern, ScannersAreForTheirExactTextOnly) {
  EXPECT_EQ(make_scanner_pattern(std::string(kGpt2) + "|x"), nullptr);
  EXPECT_EQ(make_scanner_pattern(""), nullptr);
}

TEST(Pattern, RegexCoversTheTextWithMatchesAndRest) {
  EXPECT_EQ(pieces_of(*by_oniguruma(R"(\p{Lu}+)"), "abCDe"), (std::vector<std::string>{"-ab", "+CD", "-e"}));
  EXPECT_EQ(pieces_of(*by_oniguruma(R"([^\P{L}b]+)"), "1abc"),
            (std::vector<std::string>{"-1", "+a", "-b", "+c"}));
  EXPECT_EQ(pieces_of(*by_oniguruma(R"(\p{^L})"), "a1"), (std::vector<std::string>{"-a", "+1"}));
  EXPECT_EQ(pieces_of(*by_oniguruma("x*"), "axb"), (std::vector<std::string>{"+", "-a", "+x", "-b", "+"}));
}

// Letters that came with Unicode 15 and 16, which a distribution's Oniguruma may not know.
TEST(Pattern, RegexKnowsNewLetters) {
  EXPECT_EQ(pieces_of(*by_oniguruma(R"(\p{L}+)"), "a\U00031350\U00016D40\u1C89 "),
            (std::vector<std::string>{"+a\U00031350\U00016D40\u1C89", "- "}));
}

TEST(Pattern, LiteralMatchesDoNotOverlap) {
  EXPECT_EQ(pieces_of(*make_literal_pattern("aa"), "aaab"), (std::vector<std::string>{"+aa", "-ab"}));
}

}  // namespace
}  // namespace autoglm
