// What architectures share in reading config.json.
#pragma once

#include <initializer_list>
#include <optional>

#include "base/json_fields.h"
#include "trainer/models/config.h"

namespace autoglm {

// Each throws Error(bad_data) that names the file and the field.

// Throws where the flag is not what is supported, which is also its default.
void require_flag(const JsonFields& fields, const char* key, bool supported);
void require_no_dropout(const JsonFields& fields);

// Throws where one of these is null: transformers takes no null for them.
void require_not_null(const JsonFields& fields, std::initializer_list<const char*> keys);

// What every architecture has by these names: the stream's width, layers, heads, vocabulary, special tokens.
ModelConfig read_sizes(const JsonFields& fields);
// The width of a head where the stream is dealt to all of them.
std::int64_t divided_head_dim(const ModelConfig& config, const JsonFields& fields);
// Each size may be large alone; together they must describe what memory could ever hold.
void require_possible_size(const ModelConfig& config, const JsonFields& fields);

// What holds where the file is silent, as in transformers' classes.
struct LlamaDefaults {
  double norm_epsilon = 1e-6;
  std::int64_t max_positions = 2048;
  bool attention_bias = false;
  std::optional<std::int64_t> key_heads = std::nullopt;  // none: as many as heads
  std::optional<std::int64_t> head_dim = std::nullopt;   // none: the stream's width is dealt to the heads
  std::optional<double> rotated = std::nullopt;  // share of a head; none: all of it, whatever the file says
};

// What LLaMA's fields say, as all do that came after it by its names: gated MLPs behind RMSNorms, grouped keys,
// rotary embeddings.
ModelConfig read_llama_fields(const JsonFields& fields, const LlamaDefaults& defaults);

}  // namespace autoglm
