#include "trainer/data/dataset_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/error.h"
#include "tests/trainer/data/test_model.h"

namespace autoglm {
namespace {

using std::filesystem::path;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> read_part(const std::vector<path>& files, int part, int num_parts) {
  SampleReader reader(files, part, num_parts);
  std::vector<std::string> samples;
  for (RawSample sample; reader.next(sample);) {
    samples.push_back(describe(files, sample.place).substr(files[0].parent_path().string().size() + 1) + " " +
                      std::string(sample.text));
  }
  EXPECT_EQ(reader.bytes_done(), reader.bytes_total());
  return samples;
}

std::string problem(const std::vector<path>& files) {
  try {
    read_part(files, 0, 1);
  } catch (const Error& error) {
    return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
  }
  return "nothing wrong";
}

TEST(SampleReaderTest, Lines) {
  TemporaryFolder folder;
  const path file = folder.write("a.jsonl", "{1}\n\n  \r\n{2}\r\n{3}");
  EXPECT_THAT(read_part({file}, 0, 1), ElementsAre("a.jsonl:1 {1}", "a.jsonl:4 {2}\r", "a.jsonl:5 {3}"));
}

TEST(SampleReaderTest, Arrays) {
  TemporaryFolder folder;
  const path file = folder.write("a.json", " [\n{\"a\": \"]}\\\"\"}, {\"b\": [{}, []]},\n\"x\", 7,{}\n]\n\n");
  EXPECT_THAT(read_part({file}, 0, 1),
              ElementsAre("a.json:2 (sample 1) {\"a\": \"]}\\\"\"}", "a.json:2 (sample 2) {\"b\": [{}, []]}",
                          "a.json:3 (sample 3) \"x\"", "a.json:3 (sample 4) 7", "a.json:3 (sample 5) {}"));
}

TEST(SampleReaderTest, ByteOrderMark) {
  TemporaryFolder folder;
  const path lines = folder.write("a.jsonl", "\xEF\xBB\xBF{1}\n{2}\n");
  const path array = folder.write("b.json", "\xEF\xBB\xBF[{1}]");
  EXPECT_THAT(read_part({lines, array}, 0, 1),
              ElementsAre("a.jsonl:1 {1}", "a.jsonl:2 {2}", "b.json:1 (sample 1) {1}"));
}

TEST(SampleReaderTest, EmptyFilesGiveNothing) {
  TemporaryFolder folder;
  const std::vector<path> files{folder.write("a", ""), folder.write("b", "\n \n"), folder.write("c", "[]"),
                                folder.write("d", " [ ] ")};
  EXPECT_TRUE(read_part(files, 0, 1).empty());
}

// Parts put together give what one reader gives, however the files are cut.
TEST(SampleReaderTest, PartsHoldEverySampleOnce) {
  TemporaryFolder folder;
  std::string lines = "\xEF\xBB\xBF";
  std::string array = "[";
  for (int i = 0; i < 40; ++i) {
    lines += "{\"l\": \"" + std::string(static_cast<std::size_t>(i * 7 % 23), 'x') + "\"}\n" +
             (i % 5 == 0 ? "\n" : "");
    array += std::string(i == 0 ? "" : ",\n") + "{\"a\": \"" +
             std::string(static_cast<std::size_t>(i * 5 % 17), ']') + "\"}";
  }
  const std::vector<path> files{folder.write("a.jsonl", lines), folder.write("b.json", array + "]\n"),
                                folder.write("c.jsonl", "{3}"), folder.write("d.jsonl", ""),
                                folder.write("e.jsonl", "{4}\n")};
  const std::vector<std::string> whole = read_part(files, 0, 1);
  ASSERT_EQ(whole.size(), 82U);
  for (const int num_parts : {2, 3, 7, 64, 500, 3000}) {
    std::vector<std::string> together;
    for (int part = 0; part < num_parts; ++part) {
      for (std::string& sample : read_part(files, part, num_parts)) together.push_back(std::move(sample));
    }
    EXPECT_EQ(together, whole) << num_parts;
  }
}

// Samples that are longer than the chunks in which the file is read, and end anywhere in them.
TEST(SampleReaderTest, LongSamples) {
  TemporaryFolder folder;
  std::string lines;
  std::string array = "[";
  for (const std::size_t size :
       {std::size_t{3} << 20, std::size_t{1} << 20, (std::size_t{1} << 20) - 20, std::size_t{10}}) {
    const std::string sample = "{\"x\": \"" + std::string(size, '\\') + std::string(size % 2, '\\') + "\"}";
    lines += sample + "\n";
    array += (array.size() > 1 ? ", " : "") + sample;
  }
  const path jsonl = folder.write("a.jsonl", lines);
  const path json = folder.write("b.json", array + "]");
  SampleReader from_lines({jsonl});
  SampleReader from_array({json});
  RawSample line;
  RawSample element;
  int count = 0;
  while (from_lines.next(line)) {
    ASSERT_TRUE(from_array.next(element));
    EXPECT_TRUE(line.text == element.text) << count;
    ++count;
  }
  EXPECT_FALSE(from_array.next(element));
  EXPECT_EQ(count, 4);
}

TEST(SampleReaderTest, BrokenArrays) {
  TemporaryFolder folder;
  EXPECT_THAT(problem({folder.write("a", "[{}, {\"x\": 1\n")}),
              HasSubstr("/a:1 (sample 2): the array ends in the middle"));
  EXPECT_THAT(problem({folder.write("a", "[{}\n{}]")}), HasSubstr("/a:2 (sample 1): a comma is missing"));
  EXPECT_THAT(problem({folder.write("a", "[{},\n")}), HasSubstr("the array is not closed"));
  EXPECT_THAT(problem({folder.write("a", "[{[}, {}]\n")}), HasSubstr("a bracket or quote in it is wrong"));
  EXPECT_THAT(problem({folder.write("a", "[{}]\n{}")}), HasSubstr("/a:2 (sample 1): something follows"));
  EXPECT_THAT(problem({folder.write("a", "[")}), HasSubstr("65:"));
}

TEST(SampleReaderTest, BoundsTheSizeOfASample) {
  TemporaryFolder folder;
  const path file = folder.write("a.jsonl", "{}\n" + std::string(std::size_t{66} << 20, 'x'));
  EXPECT_THAT(problem({file}), HasSubstr("65: " + file.string() + ":2: a sample is longer than 64 MiB"));
}

TEST(SampleReaderTest, MissingFiles) {
  TemporaryFolder folder;
  EXPECT_THAT(problem({folder.path() / "none.jsonl"}), HasSubstr("66: the data file"));
  EXPECT_THAT(problem({folder.path()}), HasSubstr("is not a regular file"));
  const path pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(problem({pipe}), HasSubstr("is not a regular file"));
}

TEST(SampleReaderTest, PackedFilesAreNamed) {
  TemporaryFolder folder;
  const path packed = folder.write("a.jsonl.gz", "\x1f\x8b\x08 and more");
  EXPECT_THAT(problem({packed}), HasSubstr("65: the data file " + packed.string() + " is a gzip file"));
  EXPECT_THAT(problem({folder.write("b.parquet", "PAR1....")}), HasSubstr("is a Parquet file"));
}

}  // namespace
}  // namespace autoglm
