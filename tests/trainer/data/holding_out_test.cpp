#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <set>

#include "tests/trainer/data/test_model.h"
#include "trainer/data/dataset.h"

namespace autoglm {
namespace {

using ::testing::ElementsAre;

// Running text that is cut into pieces of 8 tokens.
class HoldingOutTest : public ::testing::Test {
 protected:
  HoldingOutTest() {
    write_byte_model(folder_, all_special_tokens(), "<|endoftext|>");
    tokenizer_.emplace(Tokenizer::load(folder_.path()));
    template_.emplace(ChatTemplate::select("glm4", folder_.path(), *tokenizer_));
    options_.sequence_length = 8;
  }

  Dataset load(const std::string& lines) {
    options_.files = {folder_.write("a.jsonl", lines)};
    return load_dataset(options_, *tokenizer_, *template_);
  }

  static std::string text(std::size_t size, char letter) {
    return "{\"text\": \"" + std::string(size, letter) + "\"}\n";
  }

  // Of texts of one letter each: the letter of every sample.
  static std::string letters(const Dataset& dataset, const std::vector<std::uint32_t>& samples) {
    std::string letters;
    for (const std::uint32_t sample : samples)
      letters += static_cast<char>(dataset.samples().ids(sample).front());
    return letters;
  }

  TemporaryFolder folder_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> template_;
  DataOptions options_;
};

TEST_F(HoldingOutTest, WholeTexts) {
  std::string lines;
  for (int i = 0; i < 20; ++i)
    lines += text(9 + static_cast<std::size_t>(i * 7 % 30), static_cast<char>('a' + i));
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    options_.validation.fraction = 0.2;
    options_.seed = seed;
    const Dataset dataset = load(lines);
    const std::string held_out = letters(dataset, dataset.validation());
    const std::string trained = letters(dataset, dataset.training());
    EXPECT_EQ(std::set<char>(held_out.begin(), held_out.end()).size(), 4U);
    EXPECT_EQ(std::set<char>(trained.begin(), trained.end()).size(), 16U);
    EXPECT_EQ(trained.find_first_of(held_out), std::string::npos) << "no text is on both sides";
    EXPECT_EQ(held_out.size() + trained.size(), dataset.summary().num_pieces);
    EXPECT_GT(held_out.size(), 4U) << "texts of several pieces are among them";
  }
}

TEST_F(HoldingOutTest, TheEndOfASingleText) {
  options_.validation.fraction = 0.25;
  const Dataset dataset = load(text(63, 'a'));
  EXPECT_THAT(dataset.training(), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(dataset.validation(), ElementsAre(6, 7));
}

TEST_F(HoldingOutTest, NothingOfASinglePiece) {
  options_.validation.fraction = 0.25;
  const Dataset dataset = load(text(5, 'a'));
  EXPECT_THAT(dataset.training(), ElementsAre(0));
  EXPECT_TRUE(dataset.validation().empty());
}

TEST_F(HoldingOutTest, SamplesThatAreLeftOutDoNotCount) {
  options_.validation.fraction = 0.5;
  const std::string out = "{\"text\": \"zzzzzzzzzzzzzzzzzzzz\", \"train\": false}\n";
  const Dataset dataset = load(out + text(20, 'a') + out + text(20, 'b'));
  EXPECT_THAT(letters(dataset, dataset.training()) + letters(dataset, dataset.validation()),
              ::testing::AnyOf("aaabbb", "bbbaaa"));
}

}  // namespace
}  // namespace autoglm
