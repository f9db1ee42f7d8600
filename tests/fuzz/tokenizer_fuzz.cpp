// A model's tokenizer: tokenizer.json, and the files that name tokens besides. An input is these four texts. What it
// makes of texts lies within them and its vocabulary.
#include "trainer/data/tokenizer/tokenizer.h"

#include "base/error.h"
#include "tests/fuzz/files.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/data/tokenizer/named_tokens.h"

namespace autoglm::fuzz {
namespace {

// As LLaMA 2's are: words behind a mark, and bytes for what is in no word.
constexpr std::string_view kMarked =
    R"({"version":"1.0","truncation":null,"padding":null,
"added_tokens":[{"id":7,"content":"<s>","single_word":false,"lstrip":true,"rstrip":false,"normalized":false,"special":true}],
"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},
"pre_tokenizer":null,
"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],
"special_tokens":{"<s>":{"id":"<s>","ids":[7],"tokens":["<s>"]}}},
"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
"model":{"type":"BPE","dropout":null,"unk_token":"<unk>","continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":true,"byte_fallback":true,
"vocab":{"<unk>":0,"a":1,"b":2,"ab":3,"▁":4,"▁a":5,"<0x0A>":6},"merges":["a b","▁ a"]}})";

// As GPT-2's and its followers' are: a regular expression, and bytes as characters.
constexpr std::string_view kBytes =
    R"({"version":"1.0","truncation":null,"padding":null,
"added_tokens":[{"id":6,"content":"<|end|>","single_word":false,"lstrip":false,"rstrip":true,"normalized":true,"special":true}],
"normalizer":{"type":"NFC"},
"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},
{"type":"Split","pattern":{"Regex":"(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},
{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]},
"post_processor":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false,"use_regex":true},
"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":false,"byte_fallback":false,
"ignore_merges":true,"vocab":{"a":0,"b":1,"Ġ":2,"ab":3,"Ġa":4,"1":5},"merges":[["a","b"],["Ġ","a"]]}})";

constexpr std::string_view kConfig =
    R"({"added_tokens_decoder":{"7":{"content":"<s>","special":true,"lstrip":true},"8":{"content":"<x>","special":true}},"bos_token":"<s>",
"eos_token":{"content":"</s>"},"additional_special_tokens":["<x>"]})";

constexpr std::string_view kTexts[] = {
    "", "ab a<s> ab\n\n", "<s><|end|>  1234 it's \xC3\xA9t\xC3\xA9 \xE2\x96\x81",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "\xF0\x9F\x98\x80\r\n\t  x"};

}  // namespace

std::vector<std::string> seeds() {
  return {joined({kMarked, kConfig, R"({"unk_token": "<unk>"})"}),
          joined({kMarked, "", "", R"({"<s>": 7, "<y>": 8})"}), joined({kBytes})};
}

std::vector<std::string> words() {
  return {"\"type\"",
          "\"Sequence\"",
          "\"Split\"",
          "\"ByteLevel\"",
          "\"Metaspace\"",
          "\"Digits\"",
          "\"Prepend\"",
          "\"Replace\"",
          "\"Strip\"",
          "\"Fuse\"",
          "\"ByteFallback\"",
          "\"NFC\"",
          "\"NFKC\"",
          "\"Lowercase\"",
          "\"BPE\"",
          "\"WordPiece\"",
          "\"Regex\"",
          "\"String\"",
          "\"Isolated\"",
          "\"Removed\"",
          "\"MergedWithPrevious\"",
          "\"TemplateProcessing\"",
          "\"Whitespace\"",
          "\"vocab\"",
          "\"merges\"",
          "\"added_tokens\"",
          "\"pre_tokenizer\"",
          "true",
          "false",
          "(a+)+",
          "(a|a)*",
          "\\\\p{L}",
          "(?=",
          "[^",
          "+",
          "*",
          "{1,1000}",
          "▁",
          "Ġ",
          "<s>",
          "ab",
          "\"replacement\":\"▁\",\"prepend_scheme\":\"first\",\"split\":true",
          "16777215",
          "16777216"};
}

void read(std::string_view input) {
  write_texts(input,
              {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"});
  const Tokenizer tokenizer = Tokenizer::load(folder());
  for (const std::string_view text : kTexts) {
    const Encoding encoding = tokenizer.encode_with_offsets(text);
    AUTOGLM_CHECK(encoding.ids == tokenizer.encode(text) && encoding.ids.size() == encoding.begins.size());
    std::uint32_t last = 0;
    for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
      AUTOGLM_CHECK(encoding.ids[i] >= 0 && encoding.ids[i] < tokenizer.vocabulary_size(), "{}",
                    encoding.ids[i]);
      AUTOGLM_CHECK(encoding.begins[i] >= last && encoding.begins[i] <= text.size(), "{}",
                    encoding.begins[i]);
      last = encoding.begins[i];
    }
    tokenizer.decode(tokenizer.encode_with_special_tokens(text), true);
    tokenizer.decode(encoding.ids, false);
  }
  for (const std::string& name : named_special_tokens(folder())) tokenizer.token_to_id(name);
}

}  // namespace autoglm::fuzz
