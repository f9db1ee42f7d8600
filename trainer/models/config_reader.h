// What architectures share in reading config.json.
#pragma once

#include "base/json_fields.h"
#include "trainer/models/config.h"

namespace autoglm {

// Each throws Error(bad_data) that names the file and the field.

// Throws where the flag is not what is supported, which is also its default.
void require_flag(const JsonFields& fields, const char* key, bool supported);
void require_no_dropout(const JsonFields& fields);

// What every architecture has by these names: the stream's width, layers, heads, vocabulary, special tokens.
ModelConfig read_sizes(const JsonFields& fields);
// The width of a head where the stream is dealt to all of them.
std::int64_t divided_head_dim(const ModelConfig& config, const JsonFields& fields);
// Each size may be large alone; together they must describe what memory could ever hold.
void require_possible_size(const ModelConfig& config, const JsonFields& fields);

// What LLaMA's fields say, as all do that came after it by its names: gated MLPs behind RMSNorms, grouped keys,
// rotary embeddings of the share `rotated` of a head. The last two are what holds where the file is silent.
ModelConfig read_llama_fields(const JsonFields& fields, double norm_epsilon, double rotated);

}  // namespace autoglm
