#include "trainer/models/config_reader.h"

#include <cmath>
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

double number_of(const JsonFields& fields, const char* key, const nlohmann::json& value) {
  if (!value.is_number())
    fail(ExitCode::bad_data, "{}: \"{}\" is {}, not a number", fields.where(), key, value.dump());
  return value.get<double>();
}

// The share of a head that is rotated. Architectures without partial rotation ignore the field, as transformers
// does, but where the frequencies are scaled it fails there.
double rotated_share(const JsonFields& fields, const nlohmann::json& rope, std::optional<double> otherwise,
                     std::vector<std::string>& remarks) {
  constexpr const char* kFactor = "partial_rotary_factor";
  const nlohmann::json& object = fields.value();
  const bool beside = object.contains(kFactor), within = rope.contains(kFactor);
  if (!beside && !within) return otherwise.value_or(1.0);
  // Among the rope parameters it counts more. A null beside them takes the default away.
  const nlohmann::json& value = within ? rope.at(kFactor) : object.at(kFactor);
  const double share = value.is_null() && !within ? 1.0 : number_of(fields, kFactor, value);
  if (otherwise) {
    if (beside && within && object.at(kFactor) != rope.at(kFactor))
      remarks.push_back(
          fmt::format("{}: \"{}\" is {} beside the rope parameters and {} among them, which is taken, as "
                      "transformers does; remove the other",
                      fields.where(), kFactor, object.at(kFactor).dump(), rope.at(kFactor).dump()));
    return share;
  }
  if (share == 1) return share;
  if (rope.at("rope_type") != "default")
    fail(
        ExitCode::bad_data,
        "{}: \"{}\" {} and scaled rope parameters do not go together in this architecture; remove the factor",
        fields.where(), kFactor, share);
  remarks.push_back(fmt::format(
      "{}: \"{}\" {} is without effect in this architecture, which rotates whole heads, as in transformers",
      fields.where(), kFactor, share));
  return 1.0;
}

std::int64_t rotated_dimensions(double factor, std::int64_t head_dim, const std::string& where) {
  // May be more than any whole number can be.
  const double rotated = std::trunc(static_cast<double>(head_dim) * factor);
  if (!(rotated > 0 && rotated <= static_cast<double>(head_dim)) || std::fmod(rotated, 2) != 0) {
    fail(ExitCode::bad_data,
         "{}: {:g} of {} head dimensions would be rotated; an even number up to all is needed", where,
         rotated, head_dim);
  }
  return static_cast<std::int64_t>(rotated);
}

}  // namespace

void require_flag(const JsonFields& fields, const char* key, bool supported) {
  if (fields.flag(key, supported) == supported) return;
  fail(ExitCode::bad_data, "{}: \"{}\" is {}, which is not supported", fields.where(), key, !supported);
}

void require_not_null(const JsonFields& fields, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const auto field = fields.value().find(key);
    if (field == fields.value().end() || !field->is_null()) continue;
    fail(ExitCode::bad_data,
         "{}: \"{}\" is null, which stands for nothing; give it a value, or remove the field", fields.where(),
         key);
  }
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
  if (config.pad_id && *config.pad_id >= config.vocabulary_size)
    config.remarks.push_back(fmt::format(
        "{}: \"pad_token_id\" {} is past the {} entries of the vocabulary; padding is masked, so another id "
        "is used here, but transformers does not load such a model: set the field to null",
        fields.where(), *config.pad_id, config.vocabulary_size));
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

ModelConfig read_llama_fields(const JsonFields& fields, const LlamaDefaults& defaults) {
  require_not_null(fields, {"hidden_act", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings",
                            "attention_bias", "mlp_bias"});
  require_silu(fields);
  require_no_dropout(fields);
  require_dense(fields);
  ModelConfig config = read_sizes(fields);
  // Null means as many as heads; a class may have another number where the field is missing.
  const bool silent = !fields.value().contains("num_key_value_heads");
  const std::int64_t key_heads = silent ? defaults.key_heads.value_or(config.num_heads) : config.num_heads;
  config.num_key_heads = fields.positive("num_key_value_heads", key_heads);
  config.intermediate_size = fields.positive("intermediate_size");
  config.max_positions = fields.positive("max_position_embeddings", defaults.max_positions);
  config.tied_embeddings = fields.flag("tie_word_embeddings", false);
  config.attention_bias = fields.flag("attention_bias", defaults.attention_bias);
  config.head_dim = fields.has("head_dim")          ? fields.positive("head_dim")
                    : defaults.head_dim.has_value() ? *defaults.head_dim
                                                    : divided_head_dim(config, fields);
  if (config.num_heads % config.num_key_heads != 0) {
    fail(ExitCode::bad_data, "{}: \"num_attention_heads\" {} is not a multiple of \"num_key_value_heads\" {}",
         fields.where(), config.num_heads, config.num_key_heads);
  }
  require_possible_size(config, fields);
  config.norm_epsilon = read_norm_epsilon(fields, defaults.norm_epsilon);
  const nlohmann::json rope =
      read_rope_parameters(fields.value(), 1e4, config.max_positions, fields.where(), config.remarks);
  const std::int64_t dimensions = rotated_dimensions(
      rotated_share(fields, rope, defaults.rotated, config.remarks), config.head_dim, fields.where());
  config.rotary = {make_rotary_spec(rope, dimensions, config.max_positions, fields.where())};
  return config;
}

}  // namespace autoglm
