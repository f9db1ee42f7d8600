// What architectures share in reading config.json.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "trainer/models/config.h"

namespace autoglm {

// Reads fields of one JSON object with messages that name the file and the field.
class Fields {
 public:
  Fields(const nlohmann::json& object, const std::string& where) : object_(object), where_(where) {}

  const nlohmann::json& object() const { return object_; }
  const std::string& where() const { return where_; }

  bool has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }

  // The field, or `otherwise` where it is missing and there is one.
  std::int64_t positive(const char* key, std::optional<std::int64_t> otherwise = {},
                        std::int64_t largest = 1 << 30) const {
    if (!has(key) && otherwise) return *otherwise;
    if (!has(key)) fail(ExitCode::bad_data, "{}: the field \"{}\" is missing", where_, key);
    const nlohmann::json& value = object_.at(key);
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
    const nlohmann::json& value = object_.at(key);
    for (const nlohmann::json& id : value.is_array() ? value : nlohmann::json::array({value})) {
      if (!id.is_number_integer()) {
        fail(ExitCode::bad_data, "{}: \"{}\" holds {}, not a token id", where_, key, id.dump());
      }
      result.push_back(id.get<std::int32_t>());
    }
    return result;
  }

 private:
  const nlohmann::json& object_;
  const std::string& where_;
};

// Each throws Error(bad_data) that names the file and the field.

// Throws where the flag is not what is supported, which is also its default.
void require_flag(const Fields& fields, const char* key, bool supported);
void require_no_dropout(const Fields& fields);

// What every architecture has by these names: the stream's width, layers, heads, vocabulary, special tokens.
ModelConfig read_sizes(const Fields& fields);
// The width of a head where the stream is dealt to all of them.
std::int64_t divided_head_dim(const ModelConfig& config, const Fields& fields);
// Each size may be large alone; together they must describe what memory could ever hold.
void require_possible_size(const ModelConfig& config, const Fields& fields);

// What LLaMA's fields say, as all do that came after it by its names: gated MLPs behind RMSNorms, grouped keys,
// rotary embeddings of the share `rotated` of a head. The last two are what holds where the file is silent.
ModelConfig read_llama_fields(const Fields& fields, double norm_epsilon, double rotated);

}  // namespace autoglm
