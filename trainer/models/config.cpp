#include "trainer/models/config.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "trainer/models/architecture.h"

namespace autoglm {
namespace {

// "\"llama\" (LLaMA 1-3, ...), ... and \"opt\" (OPT)".
std::string supported_architectures() {
  std::string list;
  const auto all = architectures();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i > 0) list += i + 1 < all.size() ? ", " : " and ";
    list += fmt::format("\"{}\" ({})", all[i].model_type, all[i].known_as);
  }
  return list;
}

}  // namespace

std::optional<std::int64_t> ModelConfig::position_limit() const {
  if (!rotary.empty()) return std::nullopt;
  return max_positions;
}

void check_positions(const ModelConfig& config, const char* option, std::int64_t positions) {
  const std::optional<std::int64_t> limit = config.position_limit();
  if (!limit || positions <= *limit) return;
  fail(ExitCode::usage, "{} {} is more than the {} positions that the model has; set it to {} or less",
       option, positions, *limit, *limit);
}

ModelConfig parse_model_config(const nlohmann::json& object, const std::string& where) {
  const JsonFields fields(object, where);
  if (fields.has("quantization_config")) {
    fail(ExitCode::bad_data,
         "{}: the model is quantized (\"quantization_config\"); full fine-tuning needs the original "
         "weights",
         where);
  }
  const std::string type = fields.text("model_type", "");
  for (const Architecture& architecture : architectures()) {
    if (architecture.model_type != type) continue;
    ModelConfig config = architecture.parse(fields);
    config.model_type = type;
    return config;
  }
  fail(ExitCode::bad_data, "{}: the architecture \"{}\" is not supported; supported are {}", where, type,
       supported_architectures());
}

}  // namespace autoglm
