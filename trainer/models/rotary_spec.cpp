#include <ATen/ops/arange.h>
#include <ATen/ops/div.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/reciprocal.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/error.h"
#include "trainer/models/config.h"

namespace autoglm {
namespace {

using nlohmann::json;

// The rope parameters of either spelling: "rope_parameters" (transformers 5), or "rope_theta" beside
// "rope_scaling" (transformers 4).
struct RopeParameters {
  double theta;
  std::string type = "default";
  json values = json::object();

  double number(const char* key, const std::string& where) const {
    if (!values.contains(key) || !values.at(key).is_number()) {
      fail(ExitCode::bad_data, "{}: the rope type \"{}\" needs the number \"{}\"", where, type, key);
    }
    return values.at(key).get<double>();
  }
  double number(const char* key, double otherwise) const {
    return values.contains(key) && values.at(key).is_number() ? values.at(key).get<double>() : otherwise;
  }
};

RopeParameters read_rope_parameters(const json& config, double default_theta) {
  RopeParameters rope{default_theta};
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (config.contains(key) && config.at(key).is_object()) rope.values = config.at(key);
  }
  for (const char* key : {"type", "rope_type"}) {
    if (rope.values.contains(key) && rope.values.at(key).is_string())
      rope.type = rope.values.at(key).get<std::string>();
  }
  if (config.contains("rope_theta") && config.at("rope_theta").is_number())
    rope.theta = config.at("rope_theta").get<double>();
  rope.theta = rope.number("rope_theta", rope.theta);
  return rope;
}

// Wavelengths longer than the trained context are stretched by `factor`, short ones kept, those between
// interpolated.
void scale_llama3(std::vector<float>& frequencies, const RopeParameters& rope, const std::string& where) {
  const double factor = rope.number("factor", where);
  const double low = rope.number("low_freq_factor", where);
  const double high = rope.number("high_freq_factor", where);
  const double original = rope.number("original_max_position_embeddings", where);
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
void scale_yarn(ops::RotarySpec& spec, const RopeParameters& rope, const json& config,
                const std::string& where) {
  const double factor = rope.number("factor", where);
  const double original = rope.number(
      "original_max_position_embeddings",
      config.contains("max_position_embeddings") ? config.at("max_position_embeddings").get<double>() : 2048);
  const auto dimensions = static_cast<double>(2 * spec.inverse_frequencies.size());
  const auto dimension_of = [&](double rotations) {
    return dimensions * std::log(original / (rotations * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
  };
  double low = dimension_of(rope.number("beta_fast", 32.0));
  double high = dimension_of(rope.number("beta_slow", 1.0));
  if (!rope.values.contains("truncate") || rope.values.at("truncate") != false) {
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

ops::RotarySpec make_rotary_spec(const json& config, std::int64_t rotated, double default_theta,
                                 const std::string& where) {
  const RopeParameters rope = read_rope_parameters(config, default_theta);
  if (!(rope.theta > 0))
    fail(ExitCode::bad_data, "{}: \"rope_theta\" is {}, not a positive number", where, rope.theta);
  ops::RotarySpec spec;
  // By the same operations as transformers: a last bit more or less is multiplied by the position.
  const at::Tensor exponents = at::div(at::arange(0, rotated, 2, at::kFloat), static_cast<double>(rotated));
  const at::Tensor frequencies = at::reciprocal(at::pow(at::Scalar(rope.theta), exponents));
  const float* values = frequencies.const_data_ptr<float>();
  spec.inverse_frequencies.assign(values, values + frequencies.numel());
  if (rope.type == "linear") {
    for (float& frequency : spec.inverse_frequencies)
      frequency /= static_cast<float>(rope.number("factor", where));
  } else if (rope.type == "llama3") {
    scale_llama3(spec.inverse_frequencies, rope, where);
  } else if (rope.type == "yarn") {
    scale_yarn(spec, rope, config, where);
  } else if (rope.type != "default") {
    fail(ExitCode::bad_data,
         "{}: the rope type \"{}\" is not supported; supported are default, linear, llama3 and yarn", where,
         rope.type);
  }
  return spec;
}

}  // namespace autoglm
