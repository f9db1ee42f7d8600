// Every broken or unsupported part of a tokenizer.json is an error that names it, and none is a crash.
#include <sys/stat.h>

#include <random>

#include "tests/trainer/data/tokenizer/fixture.h"

namespace autoglm::tokenizer_test {
namespace {

using testing::HasSubstr;

void expect_refused(const std::string& contents, const std::string& part) {
  try {
    load_text(contents);
    ADD_FAILURE() << "accepted; expected an error with " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_data);
    EXPECT_THAT(error.what(), HasSubstr(part));
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json"));
  }
}

// A change at a JSON pointer of the byte-level file (or of the LLaMA 2 one), and a part of the message.
struct Change {
  const char* pointer;
  json value;
  const char* part;
};

void expect_refused(json file, const Change& change) {
  SCOPED_TRACE(std::string(change.pointer) + " = " + change.value.dump());
  file[json::json_pointer(change.pointer)] = change.value;
  expect_refused(file.dump(), change.part);
}

const json kDigitsWithout = {{"type", "Digits"}};
const json kByteLevel = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}};

json split(const json& pattern, const std::string& behavior = "Isolated") {
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", false}};
}
json regex(const std::string& text) {
  return split({{"Regex", text}});
}

TEST(BadFile, MissingFile) {
  const Folder folder;
  try {
    Tokenizer::load(folder.path());
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::missing_input);
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json"));
  }
}

TEST(BadFile, PartsInsteadOfTheFileAreToBeConverted) {
  const Folder folder;
  for (const char* name : {"vocab.json", "merges.txt"}) std::ofstream(folder.path() / name) << "{}";
  try {
    Tokenizer::load(folder.path());
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::missing_input);
    EXPECT_THAT(error.what(),
                testing::AllOf(HasSubstr("vocab.json and merges.txt"), HasSubstr("save_pretrained"),
                               HasSubstr(folder.path().string())));
  }
}

TEST(BadFile, NeverWaitsForAPipe) {
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}) {
    const Folder folder;
    folder.write(byte_level_file().dump());
    std::filesystem::remove(folder.path() / name);
    ASSERT_EQ(::mkfifo((folder.path() / name).c_str(), 0600), 0);
    try {
      Tokenizer::load(folder.path());
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_data);
      EXPECT_THAT(error.what(), testing::AllOf(HasSubstr(name), HasSubstr("is not a regular file")));
    }
  }
}

TEST(BadFile, NotJson) {
  expect_refused("", "not valid JSON");
  expect_refused("{\"version\": \"1.0\"", "not valid JSON");
  expect_refused(byte_level_file().dump() + "x", "not valid JSON");
  expect_refused("{\"a\": \"\xFF\"}", "not valid JSON");
  expect_refused("[]", "must be an object");
  expect_refused("5", "must be an object");
  expect_refused(std::string(100, '[') + std::string(100, ']'), "nested too deeply");
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "{\"a\":";
  expect_refused(deep, "nested too deeply");
}

TEST(BadFile, RepeatedKeys) {
  const std::string file = byte_level_file().dump();
  const auto with = [&](const std::string& text, const std::string& more) {
    std::string out = file;
    out.insert(out.find(text) + text.size(), more);
    return out;
  };
  expect_refused(with("{", "\"version\":\"1.0\",\"version\":\"1.0\","), "'version' is given twice");
  expect_refused(with("\"vocab\":{", "\"he\":300,"), "model.vocab[\"he\"]' is given twice");
  expect_refused(with("\"model\":{", "\"vocab\":{},"), "'model.vocab' is given twice");
  expect_refused(with("\"model\":{", "\"merges\":[],"), "'model.merges' is given twice");
  expect_refused(with("\"decoder\":{", "\"type\":\"Fuse\","), "'decoder.type' is given twice");
}

TEST(BadFile, TopLevel) {
  for (const Change& change : std::vector<Change>{
           {"/version", "2.0", "'version' is \"2.0\""},
           {"/version", 1, "'version' must be a string"},
           {"/special", 1, "'special' is not known"},
           {"/model", nullptr, "'model' must be an object"},
           {"/model", json::array(), "'model' must be an object"},
           {"/added_tokens", {{"a", 1}}, "'added_tokens' must be a list"},
           {"/pre_tokenizer", 5, "'pre_tokenizer' must be an object"},
       })
    expect_refused(byte_level_file(), change);
  json file = byte_level_file();
  file.erase("version");
  expect_refused(file.dump(), "'version' is missing");
  file = byte_level_file();
  file.erase("model");
  expect_refused(file.dump(), "'model' is missing");
}

TEST(BadFile, Model) {
  for (const Change& change : std::vector<Change>{
           {"/model/type", "Unigram", "'model.type' is \"Unigram\", which is not supported"},
           {"/model/type", "WordPiece", "'model.type' is \"WordPiece\""},
           {"/model/dropout", 0.1, "'model.dropout'"},
           {"/model/continuing_subword_prefix", "##", "'model.continuing_subword_prefix'"},
           {"/model/end_of_word_suffix", "</w>", "'model.end_of_word_suffix'"},
           {"/model/fuse_unk", "yes", "'model.fuse_unk' must be true or false"},
           {"/model/byte_fallback", 1, "'model.byte_fallback' must be true or false"},
           {"/model/new_option", 1, "'model.new_option' is not known"},
           {"/model/vocab", json::array(), "'model.vocab' has the wrong form"},
           {"/model/vocab", nullptr, "'model' has no member 'vocab'"},
           {"/model/merges", json::object(), "'model.merges' has the wrong form"},
           {"/model/merges", nullptr, "'model' has no member 'merges'"},
           {"/model/vocab/he", -1, "model.vocab[\"he\"]' is not an id"},
           {"/model/vocab/he", 1.5, "model.vocab[\"he\"]' is not an id"},
           {"/model/vocab/he", "256", "model.vocab[\"he\"]' is not an id"},
           {"/model/vocab/he", {1}, "model.vocab[\"he\"]' is a list"},
           {"/model/vocab/he", {{"a", 1}}, "model.vocab[\"he\"]' is an object"},
           {"/model/vocab/he", 257, "which \"he\" has already"},
           {"/model/vocab/he", 1 << 24, "model.vocab[\"he\"]' has id 16777216, above the limit"},
           {"/model/merges/0", "h x", "model.merges[0]' needs the token \"hx\""},
           {"/model/merges/0", "h \u4f60", "model.merges[0]' needs the token \"\u4f60\""},
           {"/model/merges/3", "hello", "model.merges[3]' is not two tokens"},
           {"/model/merges/3", "a b c", "model.merges[3]' is not two tokens"},
           {"/model/merges/3", " b", "model.merges[3]' has an empty token"},
           {"/model/merges/3", 5, "model.merges[3]' is neither"},
           {"/model/merges/3", {"a", "b"}, "model.merges[3]' has another form"},
           {"/model/merges/0", {"a"}, "model.merges[0]' holds 1 strings"},
           {"/model/merges/0", {"a", 5}, "model.merges[0]' is neither"},
           {"/model/merges/0", {"a", {"b"}}, "model.merges[0]' is a list"},
           {"/model/merges/0", {{"a", "b"}}, "model.merges[0]' is"},
       })
    expect_refused(byte_level_file(), change);
  json file = llama2_file();
  file["model"]["byte_fallback"] = false;
  expect_refused(file,
                 Change{"/model/unk_token", "<?>", "'model.unk_token' is \"<?>\", which model.vocab lacks"});
}

TEST(BadFile, AddedTokens) {
  for (const Change& change : std::vector<Change>{
           {"/added_tokens/0/id", 261, "'added_tokens[0].id' is not the id 262"},
           {"/added_tokens/0/id", -1, "'added_tokens[0].id' must be a whole number"},
           {"/added_tokens/1/content", "<|end|>", "'added_tokens[1].content' is given twice"},
           {"/added_tokens/1/content", "he", "'added_tokens[1].id' is not the id 256"},
           {"/added_tokens/1/content", "", "'added_tokens[1].content' must not be empty"},
           {"/added_tokens/1/lstrip", 0, "'added_tokens[1].lstrip' must be true or false"},
           {"/added_tokens/1/more", 0, "'added_tokens[1].more' is not known"},
           {"/added_tokens/1", 0, "'added_tokens[1]' must be an object"},
       })
    expect_refused(byte_level_file(), change);
  for (const char* member : {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}) {
    json file = byte_level_file();
    file["added_tokens"][1].erase(member);
    expect_refused(file.dump(), std::string("'added_tokens[1].") + member + "' is missing");
  }
  json file = byte_level_file();
  file["normalizer"] = {{"type", "NFC"}};
  file["added_tokens"] = {added_token(262, "\u00e9"), added_token(263, "e\u0301")};
  for (json& token : file["added_tokens"]) token["normalized"] = true;
  file["added_tokens"][0]["id"] = 263;
  file["model"]["vocab"]["\u00e9-"] = 262;
  file["added_tokens"][0]["content"] = "\u00e9x";
  file["added_tokens"][1]["content"] = "e\u0301x";
  file["added_tokens"][1]["id"] = 264;
  expect_refused(file.dump(), "'added_tokens[1].content' becomes the same");
}

TEST(BadFile, Normalizer) {
  for (const Change& change : std::vector<Change>{
           {"/normalizer",
            {{"type", "Lowercase"}},
            "'normalizer.type' is \"Lowercase\", which is not supported"},
           {"/normalizer", {{"prepend", "x"}}, "'normalizer.type' is missing"},
           {"/normalizer", {{"type", "Prepend"}}, "'normalizer.prepend' is missing"},
           {"/normalizer", {{"type", "NFC"}, {"form", 1}}, "'normalizer.form' is not known"},
           {"/normalizer",
            {{"type", "Sequence"}, {"normalizers", {{{"type", "NFKC"}}}}},
            "'normalizer.normalizers[0].type' is \"NFKC\""},
           {"/normalizer",
            {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "x"}},
            "'normalizer.pattern.String' must not be empty"},
           {"/normalizer",
            {{"type", "Replace"}, {"pattern", "a"}, {"content", "x"}},
            "'normalizer.pattern' must be an object"},
           {"/normalizer",
            {{"type", "Replace"}, {"pattern", {{"Regex", "("}}}, {"content", "x"}},
            "'normalizer.pattern.Regex' is no regular expression"},
       })
    expect_refused(byte_level_file(), change);
}

TEST(BadFile, PreTokenizer) {
  std::string many;
  for (int i = 0; i < 500; ++i) many += "\\p{L}";
  for (const Change& change : std::vector<Change>{
           {"/pre_tokenizer", {{"type", "Whitespace"}}, "'pre_tokenizer.type' is \"Whitespace\""},
           {"/pre_tokenizer", kDigitsWithout, "'pre_tokenizer.individual_digits' is missing"},
           {"/pre_tokenizer",
            {{"type", "Sequence"}, {"pretokenizers", {kByteLevel, kByteLevel}}},
            "'pre_tokenizer.pretokenizers[1]' comes after ByteLevel"},
           {"/pre_tokenizer/use_regex", "no", "'pre_tokenizer.use_regex' must be true or false"},
           {"/pre_tokenizer/split", true, "'pre_tokenizer.split' is not known"},
           {"/pre_tokenizer", split({{"String", "a"}}, "Joined"), "'pre_tokenizer.behavior'"},
           {"/pre_tokenizer", split({{"Glob", "a"}}), "'pre_tokenizer.pattern.Glob' is not known"},
           {"/pre_tokenizer", split({{"String", "a"}, {"Regex", "b"}}),
            "'pre_tokenizer.pattern' must hold either"},
           {"/pre_tokenizer", regex("[a"), "'pre_tokenizer.pattern.Regex' is no regular expression"},
           {"/pre_tokenizer", regex("\\w+"), "'pre_tokenizer.pattern.Regex' uses \\w"},
           {"/pre_tokenizer", regex("\\p{Han}+"), "uses the property \"Han\""},
           {"/pre_tokenizer", regex("[[:alpha:]]"), "uses a class like [:alpha:]"},
           {"/pre_tokenizer", regex(std::string(20'000, 'a')), "is longer than"},
           {"/pre_tokenizer", regex(many), "uses too many classes"},
           {"/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "ab"}}, "must be a single character"},
           {"/pre_tokenizer",
            {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "last"}},
            "'pre_tokenizer.prepend_scheme' must be always, first or never"},
           {"/pre_tokenizer",
            {{"type", "Metaspace"}, {"replacement", "_"}, {"add_prefix_space", false}},
            "'pre_tokenizer.add_prefix_space' contradicts"},
       })
    expect_refused(byte_level_file(), change);
}

TEST(BadFile, PostProcessor) {
  for (const Change& change : std::vector<Change>{
           {"/post_processor", {{"type", "BertProcessing"}}, "'post_processor.type' is \"BertProcessing\""},
           {"/post_processor/single/0/SpecialToken/id", "<x>", "which special_tokens lacks"},
           {"/post_processor/special_tokens/<s>/ids/0", 266, "ids[0]' is 266, above the limit of 265"},
           {"/post_processor/special_tokens/<s>/ids/0", -1, "ids[0]' must be a whole number"},
           {"/post_processor/single/1/Sequence/id", "B", "'post_processor.single[1].Sequence.id' must be A"},
           {"/post_processor/single/1", {{"Other", 1}}, "'post_processor.single[1].Other' is not known"},
           {"/post_processor/single", json::array(), "'post_processor.single' leaves the text out"},
           {"/post_processor/single/0", {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, "a second time"},
       })
    expect_refused(llama2_file(), change);
  json file = llama2_file();
  const json template_processing = file["post_processor"];
  file["post_processor"] = {{"type", "Sequence"}, {"processors", {template_processing, template_processing}}};
  expect_refused(file.dump(), "'post_processor.processors[1]' is a second template");
}

TEST(BadFile, Decoder) {
  for (const Change& change : std::vector<Change>{
           {"/decoder", {{"type", "WordPiece"}}, "'decoder.type' is \"WordPiece\""},
           {"/decoder/decoders/3/content", "xy", "'decoder.decoders[3].content' must be a single character"},
           {"/decoder/decoders/3/start", -1, "'decoder.decoders[3].start' must be a whole number"},
           {"/decoder/decoders/2/x", 1, "'decoder.decoders[2].x' is not known"},
       })
    expect_refused(llama2_file(), change);
}

// Loads what may be broken; only an Error may come out of it, and what loads must work.
void survive(const std::string& contents) {
  try {
    const Tokenizer tokenizer = load_text(contents);
    const std::string text = "hello <|end|> ab  \u4f60\n</s>e\u0301 12345 <think>";
    const std::vector<std::int32_t> ids = tokenizer.encode_with_special_tokens(text);
    tokenizer.encode_with_offsets(text);
    tokenizer.decode(ids, true);
  } catch (const Error& error) {
    EXPECT_NE(error.code(), ExitCode::bug) << error.what();
  }
}

TEST(BadFile, SurvivesFlippedBytes) {
  std::mt19937 random(1);
  for (const json& file : {byte_level_file(), llama2_file()}) {
    const std::string contents = file.dump();
    // Most of a file is the vocabulary; what comes before and behind it is more interesting.
    for (int round = 0; round < 200; ++round) {
      std::string broken = contents;
      const int flips = 1 + static_cast<int>(random() % 3);
      for (int i = 0; i < flips; ++i) {
        const std::size_t place = random() % 3 != 0 ? random() % std::min<std::size_t>(broken.size(), 1200)
                                                    : random() % broken.size();
        if (random() % 4 == 0)
          broken.erase(place, 1 + random() % 8);
        else
          broken[place] = static_cast<char>("\"{}[],:0-9\xFF ae\\"[random() % 15]);
      }
      survive(broken);
    }
  }
}

TEST(BadFile, SurvivesTruncation) {
  const std::string contents = llama2_file().dump();
  for (std::size_t size = 0; size < contents.size(); size += 61) survive(contents.substr(0, size));
}

// Puts a value of another kind in the place of each value outside of the vocabulary.
TEST(BadFile, SurvivesValuesOfOtherKinds) {
  const std::vector<json> others = {nullptr, -1, 4294967296, "", "x", json::array(), {{"type", "NFC"}}};
  for (json file : {byte_level_file(), llama2_file()}) {
    std::vector<std::string> places;
    const json flat = file.flatten();
    for (const auto& [pointer, value] : flat.items()) {
      if (pointer.find("/vocab/") != std::string::npos) continue;
      for (std::size_t at = pointer.find('/', 1); at != std::string::npos; at = pointer.find('/', at + 1))
        places.push_back(pointer.substr(0, at));
      places.push_back(pointer);
    }
    std::sort(places.begin(), places.end());
    places.erase(std::unique(places.begin(), places.end()), places.end());
    for (const std::string& place : places)
      for (const json& other : others) {
        json broken = file;
        broken[json::json_pointer(place)] = other;
        survive(broken.dump());
      }
  }
}

}  // namespace
}  // namespace autoglm::tokenizer_test
