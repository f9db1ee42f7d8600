#include "trainer/models/config_reader.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace autoglm {
namespace {

constexpr std::int64_t kMostLayers = 4096;
constexpr double kMostParameters = 1e13;

void require_silu(const JsonFields& fields) {
  const std::string activation = fields.text("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    fail(ExitCode::bad_data, "{}: \"hidden_act\" is \"{}\"; only \"silu\" is supported", fields.where(),
         activation);
  }
}

void require_dense(const JsonFields& fields) {
  for (const char* key : {"num_local_experts", "num_experts", "n_routed_experts"}) {
    if (fields.number(key, 0) > 1)
      fail(ExitCode::bad_data, "{}: \"{}\" is more than 1; mixtures of experts are not supported",
           fields.where(), key);
  }
}

double read_norm_epsilon(const JsonFields& fields, double otherwise) {
  const double epsilon = fields.number("rms_norm_eps", otherwise);
  if (!(epsilon > 0))
    fail(ExitCode::bad_data, "{}: \"rms_norm_eps\" is {}, not above 0", fields.where(), epsilon);
  return epsilon;
}

// "partial_rotary_factor" stands beside the rope parameters in one spelling and among them, where it counts
// more, in the other.
double rotated_share(const JsonFields& fields, double otherwise) {
  otherwise = fields.number("partial_rotary_factor", otherwise);
  const nlohmann::json& object = fields.value();
  if (!object.contains("rope_parameters") || !object.at("rope_parameters").is_object()) return otherwise;
  return JsonFields(object.at("rope_parameters"), fields.where()).number("partial_rotary_factor", otherwise);
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

}  // namespace

void require_flag(const JsonFields& fields, const char* key, bool supported) {
  if (fields.flag(key, supported) == supported) return;
  fail(ExitCode::bad_data, "{}: \"{}\" is {}, which is not supported", fields.where(), key, !supported);
}

void require_no_dropout(const JsonFields& fields) {
  if (fields.number("attention_dropout", 0) != 0) {
    fail(ExitCode::bad_data, "{}: \"attention_dropout\" is not 0; training with dropout is not supported",
         fields.where());
  }
}

ModelConfig read_sizes(const JsonFields& fields) {
  ModelConfig config;
  config.hidden_size = fields.positive("hidden_size");
  config.embedding_size = config.hidden_size;
  config.num_layers = fields.positive("num_hidden_layers", {}, kMostLayers);
  config.num_heads = fields.positive("num_attention_heads");
  config.vocabulary_size = fields.positive("vocab_size");
  config.eos_ids = fields.ids("eos_token_id");
  const std::vector<std::int32_t> pad = fields.ids("pad_token_id");
  if (!pad.empty() && pad.front() >= 0) config.pad_id = pad.front();
  return config;
}

std::int64_t divided_head_dim(const ModelConfig& config, const JsonFields& fields) {
  if (config.hidden_size % config.num_heads != 0) {
    fail(ExitCode::bad_data, "{}: \"hidden_size\" {} is not a multiple of \"num_attention_heads\" {}",
         fields.where(), config.hidden_size, config.num_heads);
  }
  return config.hidden_size / config.num_heads;
}

void require_possible_size(const ModelConfig& config, const JsonFields& fields) {
  const auto hidden = static_cast<double>(config.hidden_size);
  const double attended = static_cast<double>(config.num_heads) * static_cast<double>(config.head_dim);
  const double layer = hidden * (4 * attended + 3 * static_cast<double>(config.intermediate_size));
  const double parameters =
      hidden * static_cast<double>(config.vocabulary_size) + static_cast<double>(config.num_layers) * layer;
  if (parameters > kMostParameters) {
    fail(ExitCode::bad_data,
         "{}: its sizes describe a model of about {:.0e} parameters, more than the {:.0e} that are "
         "supported; is one of them wrong?",
         fields.where(), parameters, kMostParameters);
  }
}

ModelConfig read_llama_fields(const JsonFields& fields, double norm_epsilon, double rotated) {
  require_silu(fields);
  require_no_dropout(fields);
  require_dense(fields);
  ModelConfig config = read_sizes(fields);
  config.num_key_heads = fields.positive("num_key_value_heads", config.num_heads);
  config.intermediate_size = fields.positive("intermediate_size");
  config.max_positions = fields.positive("max_position_embeddings", 2048);
  config.tied_embeddings = fields.flag("tie_word_embeddings", false);
  config.attention_bias = fields.flag("attention_bias", false);
  config.head_dim = fields.has("head_dim") ? fields.positive("head_dim") : divided_head_dim(config, fields);
  if (config.num_heads % config.num_key_heads != 0) {
    fail(ExitCode::bad_data, "{}: \"num_attention_heads\" {} is not a multiple of \"num_key_value_heads\" {}",
         fields.where(), config.num_heads, config.num_key_heads);
  }
  require_possible_size(config, fields);
  config.norm_epsilon = read_norm_epsilon(fields, norm_epsilon);
  const std::int64_t dimensions =
      rotated_dimensions(rotated_share(fields, rotated), config.head_dim, fields.where());
  config.rotary = {make_rotary_spec(fields.value(), dimensions, 1e4, fields.where())};
  return config;
}

}  // namespace autoglm
