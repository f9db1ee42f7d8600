// Small tokenizers, written to a folder of their own.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"
#include "trainer/data/tokenizer/byte_level.h"
#include "trainer/data/tokenizer/tokenizer.h"
#include "trainer/data/tokenizer/utf8.h"

namespace autoglm::tokenizer_test {

using nlohmann::json;

// A folder that is removed with its contents.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "autoglm-tokenizer-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void write(std::string_view contents) const {
    std::ofstream(path_ / "tokenizer.json", std::ios::binary) << contents;
  }

 private:
  std::filesystem::path path_;
};

inline Tokenizer load_text(std::string_view contents) {
  const Folder folder;
  folder.write(contents);
  return Tokenizer::load(folder.path());
}
inline Tokenizer load(const json& file) {
  return load_text(file.dump());
}

inline json added_token(int id, const std::string& content, bool special = true) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

inline json empty_file(json model) {
  return {{"version", "1.0"},          {"truncation", nullptr},
          {"padding", nullptr},        {"added_tokens", json::array()},
          {"normalizer", nullptr},     {"pre_tokenizer", nullptr},
          {"post_processor", nullptr}, {"decoder", nullptr},
          {"model", std::move(model)}};
}

// Byte-level BPE with GPT-2's split. Ids 0 to 255 are the bytes; then "he", "ll", "hell", "hello", " hello"
// (260), "lo"; then the added tokens <|end|> (262, special) and <think> (263).
inline json byte_level_file() {
  json vocab;
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    utf8::append(token, byte_level::character_of(static_cast<std::uint8_t>(byte)));
    vocab[token] = byte;
  }
  int next = 256;
  for (const char* token : {"he", "ll", "hell", "hello", "\u0120hello", "lo"}) vocab[token] = next++;
  const json merges = {"h e", "l l", "he ll", "hell o", "\u0120 hello", "l o"};
  json file = empty_file({{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}});
  file["added_tokens"] = {added_token(262, "<|end|>"), added_token(263, "<think>", false)};
  file["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}};
  file["decoder"] = file["pre_tokenizer"];
  return file;
}

// Byte-fallback BPE over characters, in the form of LLaMA 2. <unk> <s> </s>, the 256 bytes, then from id 259
// on: U+2581, a, b, c, "ab" (263), U+2581 "ab" (264), "abc" (265).
inline json llama2_file() {
  json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = 3 + byte;
  int next = 259;
  for (const char* token : {"\u2581", "a", "b", "c", "ab", "\u2581ab", "abc"}) vocab[token] = next++;
  json file = empty_file({{"type", "BPE"},
                          {"unk_token", "<unk>"},
                          {"fuse_unk", true},
                          {"byte_fallback", true},
                          {"vocab", vocab},
                          {"merges", json::array({json::array({"a", "b"}), json::array({"\u2581", "ab"}),
                                                  json::array({"ab", "c"})})}});
  file["added_tokens"] = {added_token(0, "<unk>"), added_token(1, "<s>"), added_token(2, "</s>")};
  file["normalizer"] = {{"type", "Sequence"},
                        {"normalizers",
                         {{{"type", "Prepend"}, {"prepend", "\u2581"}},
                          {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}};
  file["decoder"] = {{"type", "Sequence"},
                     {"decoders",
                      {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
                       {{"type", "ByteFallback"}},
                       {{"type", "Fuse"}},
                       {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  file["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"pair", json::array()},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}};
  return file;
}

}  // namespace autoglm::tokenizer_test
