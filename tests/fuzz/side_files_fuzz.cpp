// The files beside a model's weights that say which tokens end a text and how chats are written, and what is written in
// their place. An input is these texts.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/side_files.h"
#include "launcher/job/exported_files.h"
#include "tests/fuzz/files.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/data/chat_template.h"
#include "trainer/data/tokenizer/tokenizer.h"

namespace autoglm::fuzz {
namespace {

// One of bytes, with the tokens of two built-in templates.
const Tokenizer& tokenizer() {
  static const Tokenizer one = [] {
    const Folder place;
    std::string vocabulary;
    for (char letter = '!'; letter <= '~'; ++letter)
      vocabulary += fmt::format("{}{}:{}", letter == '!' ? "" : ",",
                                nlohmann::json(std::string(1, letter)).dump(), letter - '!');
    std::string added;
    int id = '~' - '!';
    for (const char* const token : {"<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|endoftext|>"})
      added += fmt::format(
          R"({}{{"id":{},"content":"{}","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}})",
          added.empty() ? "" : ",", ++id, token);
    write(place.path / "tokenizer.json",
          fmt::format(
              R"({{"version":"1.0","added_tokens":[{}],"normalizer":null,"pre_tokenizer":{{"type":"ByteLevel",
"add_prefix_space":false,"trim_offsets":true,"use_regex":true}},"post_processor":null,"decoder":{{"type":"ByteLevel"}},
"model":{{"type":"BPE","unk_token":null,"vocab":{{{}}},"merges":[]}}}})",
              added, vocabulary));
    return Tokenizer::load(place.path);
  }();
  return one;
}

void check_texts(const SideFiles& files) {
  for (const std::string& name : files.names()) {
    if (!name.ends_with(".json")) continue;
    try {
      AUTOGLM_CHECK(parse_json(*files.text(name), name).is_object(), "{}", name);
    } catch (const Error& error) {
      fail(ExitCode::bug, "{}", error.what());
    }
  }
}

}  // namespace

std::vector<std::string> seeds() {
  constexpr std::string_view chatml =
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
      "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% "
      "endif %}";
  constexpr std::string_view own =
      "{% for m in messages %}{{ '<s>' + m.role + ':' + m.content + '</s>' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}";
  constexpr std::string_view config = R"({"hidden_size": 4, "eos_token_id": 99, "bos_token_id": null})";
  constexpr std::string_view named =
      R"({"eos_token": {"content": "</s>"}, "pad_token": null, "unk_token": "<s>"})";
  return {
      joined({config, "{}", named, R"({"eos_token_id": [97, 98]})", chatml}),
      joined({config,
              fmt::format(R"({{"eos_token": "</s>", "chat_template": {}}})", nlohmann::json(own).dump()), "",
              "", ""}),
      joined({"{}", R"({"eos_token": "<|im_end|>", "chat_template": [{"name": "default", "template": "x"}]})",
              named, "{\n}", ""})};
}

std::vector<std::string> words() {
  return {"\"eos_token_id\"",
          "\"eos_token\"",
          "\"content\"",
          "\"chat_template\"",
          "\"name\"",
          "\"default\"",
          "\"template\"",
          "\"bos_token_id\"",
          "\"eos_\\u0074oken_id\"",
          "\"tie_word_embeddings\"",
          "{\"a\": {}}",
          "[]",
          "{}",
          "null",
          "true",
          "\"x\"",
          "[1, \"a\"]",
          "[\"a\"]",
          "99",
          "-5",
          "1e3",
          "\"</s>\"",
          "\"<|im_end|>\"",
          "{\"content\": 5}",
          "{\"name\": 5}"};
}

void read(std::string_view input) {
  write_texts(input, {"config.json", "tokenizer_config.json", "special_tokens_map.json",
                      "generation_config.json", "chat_template.jinja"});
  write(folder() / "model.safetensors",
        file_of(make_safetensors_header({{"a", safetensors_dtype(DType::float32), {1}}}).text));
  const ModelDirectory model = ModelDirectory::open(folder());
  for (const char* const name : {"auto", "chatml"}) {
    const ChatTemplate chosen = ChatTemplate::select(name, folder(), tokenizer());
    SideFiles files = SideFiles::keep(model);
    FileChanges changes;
    if (chosen.spec() != nullptr) changes = export_template(files, chosen, tokenizer());
    if (chosen.exists()) export_stop_tokens(files, chosen, tokenizer());
    export_untied_head(files, changes);
    check_texts(files);
  }
}

}  // namespace autoglm::fuzz
