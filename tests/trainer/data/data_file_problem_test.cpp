// What --data may name, or hold, instead of samples: each is named, with the way out.
#include "trainer/data/data_file_problem.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "tests/trainer/data/test_model.h"
#include "trainer/data/json_problem.h"

namespace autoglm {
namespace {

using ::testing::HasSubstr;
using std::string_literals::operator""s;

std::string problem_of(const std::string& text, bool is_line = true) {
  try {
    parse_json(text);
  } catch (const JsonError& error) {
    return describe_json_problem(text, error, is_line);
  }
  return "nothing wrong";
}

TEST(DataFileProblem, FormatsAreKnownByTheirFirstBytes) {
  EXPECT_EQ(foreign_format_of("PAR1\0\0"s), "a Parquet file");
  EXPECT_EQ(foreign_format_of("\x04\x22\x4d\x18"), "an lz4 file");
  EXPECT_EQ(foreign_format_of("7z\xbc\xaf\x27\x1c"), "a 7z file");
  EXPECT_EQ(foreign_format_of("\x80\x04\x95"), "a pickle of Python's");
  EXPECT_EQ(foreign_format_of("a.jsonl"s + std::string(250, '\0') + "ustar\0"s), "a tar file");
  EXPECT_EQ(foreign_format_of("\x40\0\0\0\0\0\0\0{\"a\":{}}"s), "a safetensors file");
  EXPECT_EQ(foreign_format_of("{\"text\": \"PAR1\"}"), "");
  EXPECT_EQ(foreign_format_of(""), "");
}

TEST(DataFileProblem, ANumberOfEightBytesIsNoUtf32) {
  EXPECT_EQ(wide_encoding_of("\x40\0\0\0\0\0\0\0{\""s), "");
  EXPECT_EQ(wide_encoding_of("{\0\0\0\"\0\0\0"s), "UTF-32");
  EXPECT_EQ(wide_encoding_of("\0\0\0{\0\0\0\""s), "UTF-32");
  EXPECT_EQ(wide_encoding_of("[\0\"\0\xCA\x4E"s), "UTF-16");
}

TEST(DataFileProblem, PathsThatAreSpelledForOtherPrograms) {
  EXPECT_THAT(describe_unopened("https://huggingface.co/datasets/a/b", ENOENT),
              HasSubstr("it is an address"));
  EXPECT_THAT(describe_unopened("s3:/bucket/a.jsonl", ENOENT), HasSubstr("it is an address"));
  EXPECT_THAT(describe_unopened("file:///data/a.jsonl", ENOENT), HasSubstr("without \"file://\""));
  EXPECT_THAT(describe_unopened("~/a.jsonl", ENOENT), HasSubstr("\"~\" was not expanded"));
  EXPECT_THAT(describe_unopened("$DATA/a.jsonl", ENOENT), HasSubstr("variable in it was not expanded"));
  EXPECT_THAT(describe_unopened("part-*.jsonl", ENOENT), HasSubstr("no file was found for the pattern"));
  EXPECT_THAT(describe_unopened("tatsu-lab/alpaca", ENOENT),
              HasSubstr("hf download --repo-type dataset tatsu-lab/alpaca"));
  EXPECT_THAT(describe_unopened("-", ENOENT), HasSubstr("standard input is not read"));
  EXPECT_EQ(describe_unopened("https://a", EACCES), "Permission denied");
}

TEST(DataFileProblem, WhatLiesBesideIsProposed) {
  const TemporaryFolder folder;
  const std::string one = folder.write("chats.jsonl", "{}"), two = folder.write("more.jsonl", "{}");
  EXPECT_THAT(describe_unopened(folder.path() / "chats.json", ENOENT),
              HasSubstr("did you mean " + one + "?"));
  EXPECT_THAT(describe_unopened(one + "," + two, ENOENT), HasSubstr("separated by blanks, without commas"));
  EXPECT_THAT(describe_unopened("'" + one + "'", ENOENT),
              HasSubstr("there is " + one + ", without the quotes"));
  EXPECT_THAT(describe_unopened("\u201C" + one + "\u201D", ENOENT), HasSubstr("without the quotes"));
  EXPECT_THAT(describe_unopened(folder.path() / "gone" / "a.jsonl", ENOENT), HasSubstr("there is no folder"));
  EXPECT_THAT(describe_irregular(folder.path()), HasSubstr("give those in it, " + one + " " + two));
  std::filesystem::create_symlink("nowhere", folder.path() / "link");
  EXPECT_THAT(describe_unopened(folder.path() / "link", ENOENT),
              HasSubstr("a link to nowhere, which is not there"));
}

TEST(JsonProblem, OtherNotationsThanJson) {
  EXPECT_THAT(problem_of("prompt,completion"), HasSubstr("as of CSV"));
  EXPECT_THAT(problem_of(R"("prompt","completion")"), HasSubstr("as of CSV"));
  EXPECT_THAT(problem_of("Once upon a time"), HasSubstr("plain text"));
  EXPECT_THAT(problem_of("- role: user"), HasSubstr("YAML"));
  EXPECT_THAT(problem_of("<!DOCTYPE html>"), HasSubstr("a page of the web"));
  EXPECT_THAT(problem_of("version https://git-lfs.github.com/spec/v1"), HasSubstr("git lfs pull"));
  EXPECT_THAT(problem_of("<<<<<<< HEAD"), HasSubstr("merge conflict"));
  EXPECT_THAT(problem_of("data: {}"), HasSubstr("'data: ' stands before the object"));
  EXPECT_THAT(problem_of("// mine"), HasSubstr("a comment stands at character 1"));
  EXPECT_THAT(problem_of(R"({"text": "a" /* b */})"), HasSubstr("a comment stands at character 14"));
  EXPECT_THAT(problem_of("{\u201Ctext\u201D: 1}"), HasSubstr("typographic quotes stand at character 2"));
  EXPECT_THAT(problem_of("\u00A0{}"), HasSubstr("U+00A0, stands at character 1"));
  EXPECT_THAT(problem_of("{}\uFEFF{}"), HasSubstr("U+FEFF, stands at character 3"));
  EXPECT_THAT(problem_of("\x1b[0m{}"), HasSubstr("U+001B"));
}

TEST(JsonProblem, MistakesInObjects) {
  EXPECT_THAT(problem_of("{\"text\": \"a\tb\"}"),
              HasSubstr("(U+0009) stands in a text at character 12; write it \\t"));
  EXPECT_THAT(problem_of(R"({"text": "C:\\dir"})"), HasSubstr("nothing wrong"));
  EXPECT_THAT(problem_of("{\"text\": \"C:\\dir\"}"), HasSubstr("\\d at character 13 is no escape"));
  EXPECT_THAT(problem_of(R"({"text": "a)"), HasSubstr("the line ends inside of a text"));
  EXPECT_THAT(problem_of("{"), HasSubstr("jq -c . OLD > NEW"));
  EXPECT_THAT(problem_of(R"({"text": "a"}})"), HasSubstr("a closing bracket too many"));
  EXPECT_THAT(problem_of(R"({"text": "a"};)"), HasSubstr("';' follows the object"));
  EXPECT_THAT(problem_of(R"({"a": "b" "c": 1})"), HasSubstr("a comma is missing there"));
  EXPECT_THAT(problem_of("{text: 1}"), HasSubstr("names stand in double quotes"));
  EXPECT_THAT(problem_of(R"({"text": 1e999})"), HasSubstr("the number is too large"));
  EXPECT_THAT(problem_of("", false), HasSubstr("a comma has no sample before it"));
}

TEST(JsonProblem, BytesThatAreNotUtf8) {
  EXPECT_THAT(problem_of("{\"text\": \"caf\xE9\"}"),
              HasSubstr("the byte 0xE9 stands at 14: with \"iconv -f WINDOWS-1252"));
  EXPECT_THAT(problem_of("{\"text\": \"\xED\xA0\xBD\"}"), HasSubstr("CESU-8"));
  EXPECT_THAT(problem_of("\xFF\xFE{\0\"\0a\0"s),
              HasSubstr("it is written in UTF-16, unlike what stands before it"));
}

}  // namespace
}  // namespace autoglm
