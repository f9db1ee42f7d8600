#include "trainer/models/config.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace autoglm {
namespace {

using nlohmann::json;

constexpr std::int64_t kMostLayers = 4096;
constexpr double kMostParameters = 1e13;

// Reads fields of one JSON object with messages that name the file and the field.
class Fields {
 public:
  Fields(const json& object, const std::string& where) : object_(object), where_(where) {}

  bool has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }

  // The field, or `otherwise` where it is missing and there is one.
  std::int64_t positive(const char* key, std::optional<std::int64_t> otherwise = {},
                        std::int64_t largest = 1 << 30) const {
    if (!has(key) && otherwise) return *otherwise;
    if (!has(key)) fail(ExitCode::bad_data, "{}: the field \"{}\" is missing", where_, key);
    const json& value = object_.at(key);
    if (!value.is_number_integer() || value.get<std::int64_t>() <= 0 || value.get<std::int64_t>() > largest) {
      fail(ExitCode::bad_data, "{}: \"{}\" is {}, not a whole number from 1 to {}", where_, key, value.dump(),
           largest);
    }
    return value.get<std::int64_t>();
  }

  double number(const char* key, double otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_.at(key).is_number()) {
      fail(ExitCode::bad_data, "{}: \"{}\" is {}, not a number", where_, key, object_.at(key).dump());
    }
    return object_.at(key).get<double>();
  }

  bool flag(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_.at(key).is_boolean()) {
      fail(ExitCode::bad_data, "{}: \"{}\" is {}, not true or false", where_, key, object_.at(key).dump());
    }
    return object_.at(key).get<bool>();
  }

  std::string text(const char* key, const std::string& otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_.at(key).is_string()) {
      fail(ExitCode::bad_data, "{}: \"{}\" is {}, not a string", where_, key, object_.at(key).dump());
    }
    return object_.at(key).get<std::string>();
  }

  // One id or a list of them.
  std::vector<std::int32_t> ids(const char* key) const {
    std::vector<std::int32_t> result;
    if (!has(key)) return result;
    const json& value = object_.at(key);
    for (const json& id : value.is_array() ? value : json::array({value})) {
      if (!id.is_number_integer()) {
        fail(ExitCode::bad_data, "{}: \"{}\" holds {}, not a token id", where_, key, id.dump());
      }
      result.push_back(id.get<std::int32_t>());
    }
    return result;
  }

 private:
  const json& object_;
  const std::string& where_;
};

void require_silu(const Fields& fields, const std::string& where) {
  const std::string activation = fields.text("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    fail(ExitCode::bad_data, "{}: \"hidden_act\" is \"{}\"; only \"silu\" is supported", where, activation);
  }
}

void require_no_dropout(const Fields& fields, const std::string& where) {
  if (fields.number("attention_dropout", 0) != 0) {
    fail(ExitCode::bad_data, "{}: \"attention_dropout\" is not 0; training with dropout is not supported",
         where);
  }
}

// What every architecture has by these names.
void read_common(ModelConfig& config, const Fields& fields) {
  config.hidden_size = fields.positive("hidden_size");
  config.embedding_size = config.hidden_size;
  config.num_layers = fields.positive("num_hidden_layers", {}, kMostLayers);
  config.num_heads = fields.positive("num_attention_heads");
  config.vocabulary_size = fields.positive("vocab_size");
  config.eos_ids = fields.ids("eos_token_id");
  const std::vector<std::int32_t> pad = fields.ids("pad_token_id");
  if (!pad.empty() && pad.front() >= 0) config.pad_id = pad.front();
}

std::int64_t divided_head_dim(const ModelConfig& config, const std::string& where) {
  if (config.hidden_size % config.num_heads != 0) {
    fail(ExitCode::bad_data, "{}: \"hidden_size\" {} is not a multiple of \"num_attention_heads\" {}", where,
         config.hidden_size, config.num_heads);
  }
  return config.hidden_size / config.num_heads;
}

void require_dense(const Fields& fields, const std::string& where) {
  for (const char* key : {"num_local_experts", "num_experts", "n_routed_experts"}) {
    if (fields.number(key, 0) > 1)
      fail(ExitCode::bad_data, "{}: \"{}\" is more than 1; mixtures of experts are not supported", where,
           key);
  }
}

// Each field may be large alone; together they must describe what memory could ever hold.
void require_possible_size(const ModelConfig& config, const std::string& where) {
  const auto hidden = static_cast<double>(config.hidden_size);
  const double attended = static_cast<double>(config.num_heads) * static_cast<double>(config.head_dim);
  const double layer = hidden * (4 * attended + 3 * static_cast<double>(config.intermediate_size));
  const double parameters =
      hidden * static_cast<double>(config.vocabulary_size) + static_cast<double>(config.num_layers) * layer;
  if (parameters > kMostParameters) {
    fail(ExitCode::bad_data,
         "{}: its sizes describe a model of about {:.0e} parameters, more than the {:.0e} that are "
         "supported; is one of them wrong?",
         where, parameters, kMostParameters);
  }
}

double norm_epsilon(const Fields& fields, double otherwise, const std::string& where) {
  const double epsilon = fields.number("rms_norm_eps", otherwise);
  if (!(epsilon > 0)) fail(ExitCode::bad_data, "{}: \"rms_norm_eps\" is {}, not above 0", where, epsilon);
  return epsilon;
}

ModelConfig common_config(const Fields& fields, const std::string& where) {
  require_dense(fields, where);
  ModelConfig config;
  read_common(config, fields);
  config.num_key_heads = fields.positive("num_key_value_heads", config.num_heads);
  config.intermediate_size = fields.positive("intermediate_size");
  config.max_positions = fields.positive("max_position_embeddings", 2048);
  config.tied_embeddings = fields.flag("tie_word_embeddings", false);
  config.attention_bias = fields.flag("attention_bias", false);
  config.head_dim = fields.has("head_dim") ? fields.positive("head_dim") : divided_head_dim(config, where);
  if (config.num_heads % config.num_key_heads != 0) {
    fail(ExitCode::bad_data, "{}: \"num_attention_heads\" {} is not a multiple of \"num_key_value_heads\" {}",
         where, config.num_heads, config.num_key_heads);
  }
  require_possible_size(config, where);
  return config;
}

// "partial_rotary_factor" stands beside the rope parameters in one spelling and among them, where it counts
// more, in the other.
double partial_rotary_factor(const json& object, const Fields& fields, const std::string& where,
                             double otherwise) {
  otherwise = fields.number("partial_rotary_factor", otherwise);
  if (!object.contains("rope_parameters") || !object.at("rope_parameters").is_object()) return otherwise;
  return Fields(object.at("rope_parameters"), where).number("partial_rotary_factor", otherwise);
}

void require(const Fields& fields, const char* key, bool supported, const std::string& where) {
  if (fields.flag(key, supported) == supported) return;
  fail(ExitCode::bad_data, "{}: \"{}\" is {}, which is not supported", where, key, !supported);
}

std::int64_t rotated_dimensions(double factor, std::int64_t head_dim, const std::string& where) {
  const auto rotated = static_cast<std::int64_t>(static_cast<double>(head_dim) * factor);
  if (rotated <= 0 || rotated > head_dim || rotated % 2 != 0) {
    fail(ExitCode::bad_data,
         "{}: {} of {} head dimensions would be rotated; an even number up to all is needed", where, rotated,
         head_dim);
  }
  return rotated;
}

ModelConfig llama_config(const json& object, const std::string& where) {
  const Fields fields(object, where);
  require_silu(fields, where);
  require_no_dropout(fields, where);
  ModelConfig config = common_config(fields, where);
  config.norm_epsilon = norm_epsilon(fields, 1e-6, where);
  config.mlp_bias = fields.flag("mlp_bias", false);
  const double factor = partial_rotary_factor(object, fields, where, 1.0);
  config.rotary = make_rotary_spec(object, rotated_dimensions(factor, config.head_dim, where), 1e4, where);
  return config;
}

ModelConfig glm4_config(const json& object, const std::string& where) {
  const Fields fields(object, where);
  require_silu(fields, where);
  require_no_dropout(fields, where);
  ModelConfig config = common_config(fields, where);
  config.norm_epsilon = norm_epsilon(fields, 1.5625e-07, where);
  if (!fields.has("num_key_value_heads")) config.num_key_heads = std::min<std::int64_t>(2, config.num_heads);
  const double factor = partial_rotary_factor(object, fields, where, 0.5);
  config.rotary = make_rotary_spec(object, rotated_dimensions(factor, config.head_dim, where), 1e4, where);
  config.rotary.interleaved = true;
  return config;
}

// Its fields have names of their own, and biases and the final norm are never left out.
ModelConfig opt_config(const json& object, const std::string& where) {
  const Fields fields(object, where);
  const std::string activation = fields.text("activation_function", "relu");
  if (activation != "relu") {
    fail(ExitCode::bad_data, "{}: \"activation_function\" is \"{}\"; only \"relu\" is supported", where,
         activation);
  }
  require_no_dropout(fields, where);
  require(fields, "enable_bias", true, where);
  require(fields, "layer_norm_elementwise_affine", true, where);
  require(fields, "_remove_final_layer_norm", false, where);
  ModelConfig config;
  read_common(config, fields);
  config.intermediate_size = fields.positive("ffn_dim");
  config.max_positions = fields.positive("max_position_embeddings", 2048);
  config.num_key_heads = config.num_heads;
  config.head_dim = divided_head_dim(config, where);
  require_possible_size(config, where);
  config.attention_bias = config.mlp_bias = true;
  config.norm_epsilon = 1e-5;
  config.norm_first = fields.flag("do_layer_norm_before", true);
  config.embedding_size = fields.positive("word_embed_proj_dim", config.hidden_size);
  config.tied_embeddings = fields.flag("tie_word_embeddings", true);
  config.dropout = fields.number("dropout", 0.1);
  if (fields.number("layerdrop", 0) != 0) {
    fail(ExitCode::bad_data, "{}: \"layerdrop\" is not 0; leaving out layers is not supported", where);
  }
  if (!config.norm_first && config.embedding_size == config.hidden_size && config.tied_embeddings) {
    fail(ExitCode::bad_data,
         "{}: \"do_layer_norm_before\" is false and \"word_embed_proj_dim\" is that of the layers; such a "
         "model has no head of its own and is not supported",
         where);
  }
  return config;
}

}  // namespace

std::optional<std::int64_t> ModelConfig::position_limit() const {
  if (!rotary.inverse_frequencies.empty()) return std::nullopt;
  return max_positions;
}

void check_positions(const ModelConfig& config, const char* option, std::int64_t positions) {
  const std::optional<std::int64_t> limit = config.position_limit();
  if (!limit || positions <= *limit) return;
  fail(ExitCode::usage, "{} {} is more than the {} positions that the model has; set it to {} or less",
       option, positions, *limit, *limit);
}

ModelConfig parse_model_config(const json& object, const std::string& where) {
  if (!object.is_object()) fail(ExitCode::bad_data, "{} does not hold a JSON object", where);
  if (object.contains("quantization_config") && !object.at("quantization_config").is_null()) {
    fail(ExitCode::bad_data,
         "{}: the model is quantized (\"quantization_config\"); full fine-tuning needs the original "
         "weights",
         where);
  }
  const std::string type = Fields(object, where).text("model_type", "");
  ModelConfig config;
  if (type == "llama") {
    config = llama_config(object, where);
  } else if (type == "glm4") {
    config = glm4_config(object, where);
  } else if (type == "opt") {
    config = opt_config(object, where);
  } else {
    fail(ExitCode::bad_data,
         "{}: the architecture \"{}\" is not supported; supported are \"llama\" (LLaMA 1-3, SmolLM2, "
         "TinyLlama), \"glm4\" (GLM-4-0414) and \"opt\" (OPT)",
         where, type);
  }
  config.model_type = type;
  return config;
}

}  // namespace autoglm
