#include <ATen/ops/arange.h>
#include <ATen/ops/div.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/reciprocal.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/error.h"
#include "trainer/models/config.h"

namespace autoglm {
namespace {

using nlohmann::json;

// The rope parameters as they count, of either spelling: what reads a number of them names the field.
struct RopeParameters {
  double theta;
  std::string type;
  json values;

  double number(const char* key, const std::string& where) const {
    if (!values.contains(key) || !values.at(key).is_number()) {
      fail(ExitCode::bad_data, "{}: the rope type \"{}\" needs the number \"{}\"", where, type, key);
    }
    return values.at(key).get<double>();
  }
  // The same where transformers divides by it, or takes its logarithm.
  double divisor(const char* key, const std::string& where) const {
    const double value = number(key, where);
    if (value == 0 || !std::isfinite(value))
      fail(ExitCode::bad_data, "{}: the rope type \"{}\" cannot be computed with \"{}\" {}", where, type, key,
           values.at(key).dump());
    return value;
  }
  double number(const char* key, double otherwise) const {
    return values.contains(key) && values.at(key).is_number() ? values.at(key).get<double>() : otherwise;
  }
  // The same where 0 stands for nothing, too.
  double nonzero(const char* key, double otherwise) const {
    const double value = number(key, otherwise);
    return value == 0 ? otherwise : value;
  }
  // As Python takes it for true.
  bool truth(const char* key, bool otherwise) const {
    if (!values.contains(key)) return otherwise;
    const json& value = values.at(key);
    if (value.is_boolean()) return value.get<bool>();
    if (value.is_number()) return value.get<double>() != 0;
    return !value.is_null() && !value.empty();
  }
};

// What Python takes for nothing.
bool is_nothing(const json& value) {
  return value.is_null() || value == false || (value.is_number() && value == 0) ||
         ((value.is_structured() || value.is_string()) && value.size() == 0) || value == "";
}

bool is_filled_object(const json& config, const char* key) {
  return config.contains(key) && config.at(key).is_object() && !config.at(key).empty();
}

void require_object(const json& config, const char* key, const std::string& where) {
  if (!config.contains(key) || is_nothing(config.at(key)) || config.at(key).is_object()) return;
  fail(ExitCode::bad_data, "{}: \"{}\" is {}, not an object", where, key, config.at(key).dump());
}

// What stands beside the rope parameters, in transformers 4's spelling, where they do not say it themselves.
void take_from_beside(json& values, const json& config, const char* key, const std::string& where,
                      std::vector<std::string>& remarks) {
  if (!config.contains(key)) return;
  if (!values.contains(key)) {
    values[key] = config.at(key);
  } else if (values.at(key) != config.at(key) && !config.at(key).is_null()) {
    remarks.push_back(
        fmt::format("{}: \"{}\" is {} beside the rope parameters and {} among them, which is taken, as "
                    "transformers does; remove the other",
                    where, key, config.at(key).dump(), values.at(key).dump()));
  }
}

RopeParameters interpret(const json& values, const std::string& where) {
  const json& theta = values.at("rope_theta");
  if (!theta.is_number() || !(theta.get<double>() > 0))
    fail(ExitCode::bad_data, "{}: \"rope_theta\" is {}, not a positive number", where, theta.dump());
  const json& type = values.at("rope_type");
  if (!type.is_string())
    fail(ExitCode::bad_data, "{}: the rope type is {}, not a name; leave \"rope_type\" out for the default",
         where, type.dump());
  return {theta.get<double>(), type.get<std::string>(), values};
}

// Wavelengths longer than the trained context are stretched by `factor`, short ones kept, those between
// interpolated.
void scale_llama3(std::vector<float>& frequencies, const RopeParameters& rope, const std::string& where) {
  const double factor = rope.divisor("factor", where);
  const double low = rope.divisor("low_freq_factor", where);
  const double high = rope.divisor("high_freq_factor", where);
  const double original = rope.divisor("original_max_position_embeddings", where);
  for (float& frequency : frequencies) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
    if (wavelength > static_cast<float>(original / low)) {
      frequency = frequency / static_cast<float>(factor);
    } else if (wavelength >= static_cast<float>(original / high)) {
      const float smooth = (static_cast<float>(original) / wavelength - static_cast<float>(low)) /
                           static_cast<float>(high - low);
      frequency = (1 - smooth) * frequency / static_cast<float>(factor) + smooth * frequency;
    }
  }
}

// NTK by parts: a linear ramp between the dimensions that turn beta_fast and beta_slow times within the
// original context; the attention factor is 0.1 ln(factor) + 1 unless given.
void scale_yarn(ops::RotarySpec& spec, const RopeParameters& rope, std::int64_t max_positions,
                const std::string& where) {
  const double original = rope.divisor("original_max_position_embeddings", where);
  const bool derives = rope.values.contains("factor") && rope.values.at("factor").is_null();
  const double factor =
      derives ? static_cast<double>(max_positions) / original : rope.divisor("factor", where);
  const auto dimensions = static_cast<double>(2 * spec.inverse_frequencies.size());
  const auto dimension_of = [&](double rotations) {
    return dimensions * std::log(original / (rotations * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
  };
  double low = dimension_of(rope.nonzero("beta_fast", 32.0));
  double high = dimension_of(rope.nonzero("beta_slow", 1.0));
  if (rope.truth("truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dimensions - 1);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < spec.inverse_frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double keep = 1 - ramp;
    const double frequency = spec.inverse_frequencies[i];
    spec.inverse_frequencies[i] = static_cast<float>(frequency / factor * (1 - keep) + frequency * keep);
  }
  const auto magnitude = [&](double scale) {
    return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0;
  };
  const double mscale = rope.number("mscale", 0.0), mscale_all = rope.number("mscale_all_dim", 0.0);
  const double derived =
      mscale != 0 && mscale_all != 0 ? magnitude(mscale) / magnitude(mscale_all) : magnitude(1);
  spec.attention_factor = static_cast<float>(rope.number("attention_factor", derived));
}

}  // namespace

json read_rope_parameters(const json& config, double default_theta, std::int64_t max_positions,
                          const std::string& where, std::vector<std::string>& remarks) {
  require_object(config, "rope_scaling", where);
  require_object(config, "rope_parameters", where);
  const bool scaling = is_filled_object(config, "rope_scaling");
  json values = json::object();
  if (scaling || is_filled_object(config, "rope_parameters"))
    values = config.at(scaling ? "rope_scaling" : "rope_parameters");
  take_from_beside(values, config, "rope_theta", where, remarks);
  if (!values.contains("rope_theta")) values["rope_theta"] = default_theta;
  if (!values.contains("rope_type")) {
    values["rope_type"] = values.value("type", json("default"));
  } else if (values.contains("type") && values.at("type") != values.at("rope_type")) {
    remarks.push_back(
        fmt::format("{}: the rope parameters have \"type\" {} and \"rope_type\" {}, which is taken, as "
                    "transformers does; remove the other",
                    where, values.at("type").dump(), values.at("rope_type").dump()));
  }
  if (scaling && is_filled_object(config, "rope_parameters")) {
    json other = config.at("rope_parameters");
    other.erase("type");
    if (!std::ranges::all_of(other.items(), [&](const auto& one) {
          return values.contains(one.key()) && values.at(one.key()) == one.value();
        }))
      remarks.push_back(fmt::format(
          "{}: \"rope_parameters\" and \"rope_scaling\" contradict each other; \"rope_scaling\" is taken, as "
          "transformers does; remove the other",
          where));
  }
  const json& type = values.at("rope_type");
  if (type == "llama3" || type == "yarn") {
    constexpr const char* kOriginal = "original_max_position_embeddings";
    if (config.contains(kOriginal)) {
      if (values.contains(kOriginal) && values.at(kOriginal) != config.at(kOriginal))
        remarks.push_back(fmt::format(
            "{}: \"{}\" is {} among the rope parameters and {} beside them, which is taken, as transformers "
            "does; remove the other",
            where, kOriginal, values.at(kOriginal).dump(), config.at(kOriginal).dump()));
      values[kOriginal] = config.at(kOriginal);
    } else if (!values.contains(kOriginal)) {
      values[kOriginal] = max_positions;
    }
  }
  return values;
}

ops::RotarySpec make_rotary_spec(const json& parameters, std::int64_t rotated, std::int64_t max_positions,
                                 const std::string& where) {
  const RopeParameters rope = interpret(parameters, where);
  ops::RotarySpec spec;
  // By the same operations as transformers: a last bit more or less is multiplied by the position.
  const at::Tensor exponents = at::div(at::arange(0, rotated, 2, at::kFloat), static_cast<double>(rotated));
  const at::Tensor frequencies = at::reciprocal(at::pow(at::Scalar(rope.theta), exponents));
  const float* values = frequencies.const_data_ptr<float>();
  spec.inverse_frequencies.assign(values, values + frequencies.numel());
  if (rope.type == "linear") {
    for (float& frequency : spec.inverse_frequencies)
      frequency /= static_cast<float>(rope.divisor("factor", where));
  } else if (rope.type == "llama3") {
    scale_llama3(spec.inverse_frequencies, rope, where);
  } else if (rope.type == "yarn") {
    scale_yarn(spec, rope, max_positions, where);
  } else if (rope.type != "default") {
    fail(ExitCode::bad_data,
         "{}: the rope type \"{}\" is not supported; supported are default, linear, llama3 and yarn", where,
         rope.type);
  }
  return spec;
}

}  // namespace autoglm
