// What is checked of data and questions against the model before anything is trained.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "trainer/data/dataset.h"
#include "trainer/models/config.h"

namespace autoglm {

// Asserts that every id and every label of the data is within the vocabulary, and settles what padding is: it is
// masked, so that an id past the vocabulary gives way to one within. Throws Error(bad_data) that names the token.
void check_vocabulary(Dataset& dataset, const Tokenizer& tokenizer, const ModelConfig& config);

// The same of the prompts of --sample. Throws Error(bad_data), and Error(usage) for one of which no token is left.
void check_prompts(std::span<const std::string> prompts, const Tokenizer& tokenizer,
                   const ChatTemplate& chat_template, const ModelConfig& config);

// What is worth a warning, each a sentence: end tokens that the model cannot say, samples that are longer than what the
// model was made for.
std::vector<std::string> doubts(const Dataset& dataset, const Tokenizer& tokenizer,
                                const ChatTemplate& chat_template, const ModelConfig& config);

// "sample 3 of chats.jsonl, which begins \"...\"": a sample as a person finds it. The number counts what was read, the
// file is left out where samples were dropped.
std::string describe_sample(const Dataset& dataset, const Tokenizer& tokenizer, std::uint32_t sample);

}  // namespace autoglm
