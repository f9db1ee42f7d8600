// Tokens that tokenizer_config.json, special_tokens_map.json and added_tokens.json name beside tokenizer.json.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/data/tokenizer/tokenizer_file.h"

namespace autoglm {

// Contents of bos_token, eos_token and the like, and of the tokens of added_tokens_decoder (of added_tokens.json
// where there is none); each once. All files may be absent. Throws Error(bad_data) for one that is not JSON.
std::vector<std::string> named_special_tokens(const std::filesystem::path& model_directory);

// Adds to the added tokens of `file` what transformers adds to them: the tokens of added_tokens_decoder or
// added_tokens.json that it lacks, the decoder's flags of those that it has, and the named special tokens that are in its vocabulary only. Without that a text would spell them in
// letters. Throws Error(bad_data) for a special token that added_tokens_decoder puts where it cannot be.
void add_named_tokens(const std::filesystem::path& model_directory, TokenizerFile& file);

}  // namespace autoglm
