// The names of a model's special tokens, as its tokenizer files give them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trainer/data/tokenizer/tokenizer.h"

namespace autoglm {

// The end of sequence of a model that names none.
inline constexpr std::string_view kDefaultEos = "<|endoftext|>";

struct SpecialTokens {
  // Contents such as "<s>"; absent where the model names none.
  std::optional<std::string> bos;
  std::optional<std::string> eos;
  std::optional<std::string> pad;
  // The further ones that transformers hands to chat templates: {"unk_token", "<unk>"}, ...
  std::vector<std::pair<std::string, std::string>> others = {};
  // Ids at which the model's own generation stops: of `eos`, and those of generation_config.json and
  // config.json.
  std::vector<std::int32_t> stop_ids = {};
  // Special tokens that the tokenizer's files name and that it does not have.
  std::vector<std::string> missing = {};
};

// Reads tokenizer_config.json, special_tokens_map.json (for what the first leaves open),
// generation_config.json and config.json; each may be absent. Throws Error(bad_data) naming file and field
// for one that is broken.
SpecialTokens read_special_tokens(const std::filesystem::path& model_directory, const Tokenizer& tokenizer);

// The text of the model's chat template: chat_template.jinja, else "chat_template" of tokenizer_config.json
// (of several, the one named "default"). Absent when the model has none.
std::optional<std::string> read_chat_template(const std::filesystem::path& model_directory);

}  // namespace autoglm
