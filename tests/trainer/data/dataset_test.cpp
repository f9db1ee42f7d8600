#include "trainer/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/data/dataset_fixture.h"
#include "trainer/data/sample_order.h"

namespace autoglm {
namespace {

using std::filesystem::path;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(DatasetTest, LoadsFilesInOrder) {
  options_.files = {folder_.write("b.jsonl", chat("a", "b") + chat("c", "d")),
                    folder_.write("a.json", fmt::format("[{}]", chat("e", "f")))};
  const Dataset dataset = load();
  ASSERT_EQ(dataset.samples().size(), 3U);
  std::string users;
  for (std::size_t i = 0; i < 3; ++i) users += static_cast<char>(dataset.samples().ids(i)[4]);
  EXPECT_EQ(users, "ace");
  EXPECT_THAT(dataset.summary().samples_per_file, ElementsAre(2, 1));
  EXPECT_EQ(dataset.summary().tokens, 27U);
  EXPECT_EQ(dataset.summary().supervised_tokens, 9U);
  EXPECT_EQ(dataset.template_name(), "glm4");
}

TEST_F(DatasetTest, CountsFieldsThatNobodyReads) {
  std::string lines = chat("a", "b");
  for (int i = 0; i < 5; ++i)
    lines += R"({"text": "t", "mood": 1, "tone": "x", "id": 3})" + std::string(i > 2 ? "" : " ") + "\n";
  lines += R"({"messages": [{"role": "assistant", "content": "a", "mood": 1}], "colour": null})";
  options_.files = {folder_.write("a.jsonl", lines)};
  const auto in_words = [&](const Dataset& dataset) {
    std::string text;
    for (const auto& [field, count] : dataset.summary().unread.counts())
      text += fmt::format("{} {} {} {}; ", to_string(field.place), field.name, count.count,
                          describe(options_.files, *count.first).substr(folder_.path().string().size()));
    return text;
  };
  const std::string expected = "sample mood 5 /a.jsonl:2; sample tone 5 /a.jsonl:2; turn mood 1 /a.jsonl:7; ";
  EXPECT_EQ(in_words(load()), expected);
  EXPECT_EQ(in_words(load({nullptr, 3})), expected);
  autoglm::testing::run_ranks(2, {}, [&](Communicator& communicator) {
    EXPECT_EQ(in_words(load({&communicator, 2})), expected);
  });
}

TEST_F(DatasetTest, NamesOfFieldsAreBounded) {
  std::string lines;
  for (int i = 0; i < 1200; ++i) lines += fmt::format("{{\"text\": \"t\", \"k{:04}\": 1}}\n", i);
  options_.files = {folder_.write("a.jsonl", lines)};
  const Dataset dataset = load();
  EXPECT_EQ(dataset.summary().unread.counts().size(), UnreadFields::kMostNames + 1);
  EXPECT_EQ(dataset.summary().unread.counts().begin()->second.count, 200U);
}

// What people's files hold instead of JSON in UTF-8: each its own sentence.
TEST_F(DatasetTest, OtherNotationsAreNamed) {
  const std::string line = chat("a", "b");
  const auto says = [&](const std::string& text, const std::string& sentence) {
    options_.files = {folder_.write("a.jsonl", text)};
    EXPECT_THAT(problem(), HasSubstr("65: "));
    EXPECT_THAT(problem(), HasSubstr(sentence)) << text;
  };
  const auto widen = [](const std::string& text, int before, int after) {
    std::string wide;
    for (const char c : text)
      wide += std::string(static_cast<std::size_t>(before), '\0') + c +
              std::string(static_cast<std::size_t>(after), '\0');
    return wide;
  };
  says("\xFF\xFE" + widen(line, 0, 1), "is written in UTF-16; convert it to UTF-8: iconv -f UTF-16");
  says("\xFE\xFF" + widen(line, 1, 0), "is written in UTF-16");
  says(widen(line, 0, 1), "is written in UTF-16");
  says(widen(line, 1, 0), "is written in UTF-16");
  says(std::string("\xFF\xFE\0\0", 4) + widen(line, 0, 3), "is written in UTF-32");
  says(widen(line, 3, 0), "is written in UTF-32");
  says(R"({"text": "a \ud83d"})", "a.jsonl:1: the escape \\ud83d at character 13 is a lone surrogate");
  says(R"({"text": "\\\\ \ude00 b"})", "the escape \\ude00 at character 16 is a lone surrogate");
  says(R"({"text": "\ud83d\ud83d\ude00"})", "is a lone surrogate");
  says(line + std::string(9, '\0'), "a.jsonl:2: there are NUL bytes instead of a sample");
  says(line + std::string("{\"text\": \"a\0b\"}", 15), "a.jsonl:2: it holds a NUL byte");
  says("[" + line + "]" + std::string(4, '\0'), "NUL bytes follow the end of the array");
  says(R"({"text": "a",})", "a comma stands before a closing bracket; take that comma out");
  says(R"({"messages": [{"role": "user", "content": "a"}, ]})", "a comma stands before a closing bracket");
  says("[" + line + ",\n]", "a comma stands before the bracket that closes the array");
  says(R"({"text": "a"},)" + std::string("\n") + R"({"text": "b"})",
       "a comma follows the object; lines of JSONL");
  says(R"({"text": "a"} {"text": "b"})", "a second value follows on the same line");
  says("{'text': 'a'}", "single quotes, as Python prints a dict");
  says(R"({"text": "a", "score": NaN})", "NaN is no value of JSON");
  says(R"({"text": "a", "score": None})", "None is no value of JSON");
  says("{\"text\": \"\xff\"}", "it is not valid UTF-8; convert the file to UTF-8");
  const std::string turns = R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])";
  says(turns + "\n" + turns + "\n",
       "a.jsonl:1 (sample 1): it is a turn, not a sample; put the list of turns");
  says("[" + turns + ",\n" + turns + "]",
       "a.jsonl:1 (sample 1): a sample must be a JSON object, not a list of turns");
}

TEST_F(DatasetTest, DropsWhatHasNothingToSupervise) {
  options_.files = {
      folder_.write("a.jsonl", chat("a", "b") + R"({"messages": [{"role": "user", "content": "a"}]})")};
  const Dataset dataset = load();
  EXPECT_EQ(dataset.samples().size(), 1U);
  EXPECT_EQ(dataset.summary().dropped_unsupervised.count, 1U);
}

TEST_F(DatasetTest, BadInputEachWithItsSentence) {
  options_.files = {folder_.write("a.jsonl", R"({"messages": [{"role": "user", "content": "a"}]})")};
  EXPECT_THAT(problem(), HasSubstr("65: there is nothing to supervise in"));
  options_.files = {folder_.write("a.jsonl", ""), folder_.write("b.jsonl", chat("a", "b"))};
  EXPECT_THAT(problem(), HasSubstr("a.jsonl holds no samples"));
  options_.files = {folder_.write("a.jsonl", chat("a", "b") + "{\"messages\": [}\n")};
  EXPECT_THAT(problem(), HasSubstr("a.jsonl:2: not valid JSON near"));
  options_.files = {folder_.write("a.jsonl", "{\n\"messages\": []\n}\n")};
  EXPECT_THAT(problem(), HasSubstr("a.jsonl:1: not valid JSON"));
  EXPECT_THAT(problem(), HasSubstr("each line must hold one whole JSON object"));
  options_.files = {folder_.write("a.json", fmt::format("[{},\n{{\"messages\":\n [1 2]}}]", chat("a", "b")))};
  EXPECT_THAT(problem(), HasSubstr("a.json:4 (sample 2): not valid JSON"));
  options_.files = {
      folder_.write("a.jsonl", chat("a", "b") + R"({"messages": [{"role": "boss", "content": "a"}]})")};
  EXPECT_THAT(problem(), HasSubstr("a.jsonl:2: turn 1 has the unknown role \"boss\""));
  options_.files = {folder_.path() / "none.jsonl"};
  EXPECT_THAT(problem(), HasSubstr("66: the data file"));
  options_.files = {};
  EXPECT_THAT(problem(), HasSubstr("64: no data file"));
  options_.files = {folder_.write("a.jsonl", chat("a", "b"))};
  options_.sequence_length = 1;
  EXPECT_THAT(problem(), HasSubstr("64: --sequence-length"));
}

// Whatever is done to a file, loading it either works or says what is wrong.
TEST_F(DatasetTest, DamagedFilesAreRefusedOrRead) {
  const std::string line = chat("Gr\\u00fc\\u00dfe", "w\xC3\xB6rld");
  const std::vector<std::string> whole = {line + line, fmt::format("[{},{}]", line, line)};
  int refused = 0;
  for (std::uint64_t i = 0; i < 800; ++i) {
    std::string damaged = whole[i % 2];
    const auto draw = [&](std::uint64_t which, std::uint64_t below) {
      return static_cast<std::size_t>(random_number(i, RandomPurpose::sample_order, which, 0) % below);
    };
    const std::size_t at = draw(0, damaged.size());
    if (draw(1, 3) == 0) damaged.resize(at);
    if (draw(1, 3) == 1) damaged[at] = static_cast<char>(draw(2, 256));
    if (draw(1, 3) == 2) damaged.insert(at, 1, "{}[]\",:\\\n"[draw(3, 9)]);
    options_.files = {folder_.write("a.json", damaged)};
    const std::string said = problem();
    refused += said == "nothing wrong" ? 0 : 1;
    EXPECT_THAT(said, ::testing::AnyOf("nothing wrong", ::testing::StartsWith("65: "))) << damaged;
  }
  EXPECT_GT(refused, 400);
}

TEST_F(DatasetTest, SplitsOffValidation) {
  std::string lines;
  for (int i = 0; i < 40; ++i) lines += chat("a", std::string(static_cast<std::size_t>(i % 9), 'b'));
  options_.files = {folder_.write("a.jsonl", lines)};
  options_.validation.fraction = 0.1;
  const Dataset dataset = load();
  EXPECT_EQ(dataset.validation().size(), 4U);
  EXPECT_FALSE(dataset.summary().is_wholly_trained());
  EXPECT_EQ(dataset.training().size(), 36U);
  for (const std::uint32_t sample : dataset.validation()) {
    EXPECT_EQ(std::count(dataset.training().begin(), dataset.training().end(), sample), 0);
  }
}

TEST_F(DatasetTest, ReadsAValidationFile) {
  options_.files = {folder_.write("a.jsonl", chat("a", "b"))};
  options_.validation.file = folder_.write("v.jsonl", chat("c", "d") + chat("e", "f"));
  const Dataset dataset = load();
  EXPECT_THAT(dataset.training(), ElementsAre(0));
  EXPECT_THAT(dataset.validation(), ElementsAre(1, 2));
  EXPECT_EQ(dataset.validation_summary().num_kept, 2U);
  EXPECT_EQ(dataset.validation_rows().num_rows(), 1U);
  folder_.write("v.jsonl", "{}");
  EXPECT_THAT(problem(), HasSubstr("v.jsonl:1: it has none of the fields"));
}

TEST_F(DatasetTest, RowsAndSupervisedTokens) {
  options_.files = {
      folder_.write("a.jsonl", chat("a", "b") + chat("c", "dd") + chat("e", "ffffffffffffffffff"))};
  const Dataset dataset = load();
  const RowPlan rows = dataset.training_rows(0);
  ASSERT_EQ(rows.num_rows(), 2U);
  std::int64_t supervised = 0;
  for (std::size_t i = 0; i < rows.num_rows(); ++i) {
    std::vector<std::int32_t> ids(32), targets(32), positions(32);
    dataset.write_row(rows.row(i), {ids, targets, positions});
    const auto trained = 32 - std::count(targets.begin(), targets.end(), kIgnoredLabel);
    EXPECT_EQ(trained, dataset.supervised_tokens(rows.row(i)));
    supervised += trained;
  }
  EXPECT_EQ(static_cast<std::uint64_t>(supervised), dataset.summary().supervised_tokens);
}

TEST_F(DatasetTest, EveryNumberOfRanksAndThreadsSeesTheSame) {
  std::string lines;
  for (int i = 0; i < 57; ++i) lines += chat("a", std::string(static_cast<std::size_t>(i * 11 % 41), 'b'));
  options_.files = {folder_.write("a.jsonl", lines),
                    folder_.write("b.json", fmt::format("[{},{}]", chat("x", "y"), chat("z", "w"))),
                    folder_.write("c.jsonl", "{\"text\": \"" + std::string(200, 't') + "\"}\n")};
  options_.validation.fraction = 0.2;
  const std::string alone = text_of(load());
  for (const auto& [ranks, threads] : std::vector<std::pair<int, int>>{{1, 3}, {2, 1}, {3, 2}, {5, 1}}) {
    EXPECT_THAT(load_on_ranks(ranks, threads), ::testing::Each(alone)) << ranks << " " << threads;
  }
}

TEST_F(DatasetTest, OneRanksFailureIsThrownOnAll) {
  std::string lines;
  for (int i = 0; i < 30; ++i) lines += i == 12 || i == 25 ? "{\"text\": 5}\n" : chat("a", "b");
  options_.files = {folder_.write("a.jsonl", lines)};
  for (const int world_size : {2, 3, 4}) {
    EXPECT_THAT(load_on_ranks(world_size),
                ::testing::Each(HasSubstr("a.jsonl:13: \"text\" must be a string")))
        << world_size;
    EXPECT_THAT(load_on_ranks(world_size, 2), ::testing::Each(HasSubstr("agreed 65: ")));
  }
  options_.files = {folder_.write("a.jsonl", "")};
  EXPECT_THAT(load_on_ranks(2), ::testing::Each(HasSubstr("agreed 65: the data file")));
}

TEST_F(DatasetTest, TheFirstOfSeveralFailuresCounts) {
  std::string lines;
  for (int i = 0; i < 3000; ++i) lines += i == 700 || i == 2900 ? "{\"text\": 5}\n" : chat("a", "b");
  options_.files = {folder_.write("a.jsonl", lines)};
  for (int i = 0; i < 5; ++i) {
    try {
      load({nullptr, 4});
      FAIL();
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("a.jsonl:701:"));
    }
  }
}

TEST_F(DatasetTest, RanksThatSeeOtherFilesAreTold) {
  TemporaryFolder other;
  const path mine = folder_.write("a.jsonl", chat("a", "b") + chat("a", "b"));
  other.write("a.jsonl", chat("a", "b"));
  std::vector<std::string> results(2);
  autoglm::testing::run_ranks(2, {}, [&](Communicator& communicator) {
    DataOptions options = options_;
    options.files = {communicator.rank() == 0 ? mine : other.path() / "a.jsonl"};
    try {
      load_dataset(options, *tokenizer_, *template_, {&communicator});
    } catch (const AgreedError& error) {
      results[static_cast<std::size_t>(communicator.rank())] =
          fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
    }
  });
  EXPECT_THAT(results, ::testing::Each(HasSubstr("69: ranks see different data: ")));
}

TEST_F(DatasetTest, ReportsProgress) {
  std::string lines;
  for (int i = 0; i < 600; ++i) lines += chat("a", "b");
  options_.files = {folder_.write("a.jsonl", lines)};
  std::vector<std::pair<std::uint64_t, std::uint64_t>> reports;
  load({nullptr, 1, [&](std::uint64_t done, std::uint64_t total) { reports.emplace_back(done, total); }});
  ASSERT_EQ(reports.size(), 3U);
  EXPECT_TRUE(std::is_sorted(reports.begin(), reports.end()));
  EXPECT_EQ(reports.back(), std::make_pair(lines.size(), lines.size()));
}

}  // namespace
}  // namespace autoglm
