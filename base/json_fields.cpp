#include "base/json_fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/nearest_name.h"

namespace autoglm {
namespace {

using nlohmann::json;

bool is_text(const json& value) {
  return value.is_string() && !value.get_ref<const std::string&>().empty();
}

bool is_whole(const json& value, std::int64_t least, std::int64_t most) {
  // Read as a signed number, one above all of these would be another.
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
    return false;
  return value.is_number_integer() && value.get<std::int64_t>() >= least && value.get<std::int64_t>() <= most;
}

}  // namespace

JsonFields::JsonFields(const json& object, std::string where, std::string prefix)
    : object_(object), where_(std::move(where)), prefix_(std::move(prefix)) {
  if (object_.is_object()) return;
  if (prefix_.empty()) fail(ExitCode::bad_data, "{} does not hold a JSON object", where_);
  fail(ExitCode::bad_data, "{}: \"{}\" is not an object", where_, prefix_.substr(0, prefix_.size() - 1));
}

void JsonFields::wrong(const std::string& key, const std::string& what) const {
  fail(ExitCode::bad_data, "{}: \"{}{}\" is {}, not {}", where_, prefix_, key, at(key).dump(), what);
}

const json& JsonFields::at(const std::string& key) const {
  if (!object_.contains(key))
    fail(ExitCode::bad_data, "{}: the field \"{}{}\" is missing", where_, prefix_, key);
  asked_.push_back(key);
  return object_.at(key);
}

bool JsonFields::has(const std::string& key) const {
  return object_.contains(key) && !at(key).is_null();
}

bool JsonFields::is_null(const std::string& key) const {
  return at(key).is_null();
}

std::string JsonFields::text(const std::string& key) const {
  if (!is_text(at(key))) wrong(key, "a text");
  return at(key).get<std::string>();
}

std::vector<std::string> JsonFields::texts(const std::string& key) const {
  const json& list = at(key);
  if (!list.is_array() || !std::all_of(list.begin(), list.end(), is_text)) wrong(key, "a list of texts");
  return list.get<std::vector<std::string>>();
}

std::int64_t JsonFields::bytes(const std::string& key) const {
  if (!is_whole(at(key), 0, std::int64_t{1} << 50)) wrong(key, "a number of bytes");
  return at(key).get<std::int64_t>();
}

std::int64_t JsonFields::count(const std::string& key) const {
  if (!is_whole(at(key), 1, 1 << 20)) wrong(key, "a number of at least 1");
  return at(key).get<std::int64_t>();
}

double JsonFields::positive_number(const std::string& key) const {
  const json& value = at(key);
  if (!value.is_number() || !(value.get<double>() > 0)) wrong(key, "a number above 0");
  return value.get<double>();
}

double JsonFields::fraction(const std::string& key) const {
  const double value = positive_number(key);
  if (value > 1) wrong(key, "a fraction up to 1");
  return value;
}

JsonFields JsonFields::object(const std::string& key) const {
  return JsonFields(at(key), where_, prefix_ + key + ".");
}

std::int64_t JsonFields::positive(const std::string& key, std::optional<std::int64_t> otherwise,
                                  std::int64_t largest) const {
  if (!has(key)) {
    if (otherwise) return *otherwise;
    fail(ExitCode::bad_data, "{}: the field \"{}{}\" is missing", where_, prefix_, key);
  }
  if (!is_whole(at(key), 1, largest)) wrong(key, fmt::format("a whole number from 1 to {}", largest));
  return at(key).get<std::int64_t>();
}

double JsonFields::number(const std::string& key, double otherwise) const {
  if (!has(key)) return otherwise;
  if (!at(key).is_number()) wrong(key, "a number");
  return at(key).get<double>();
}

bool JsonFields::flag(const std::string& key, bool otherwise) const {
  if (!has(key)) return otherwise;
  if (!at(key).is_boolean()) wrong(key, "true or false");
  return at(key).get<bool>();
}

std::string JsonFields::text(const std::string& key, const std::string& otherwise) const {
  if (!has(key)) return otherwise;
  if (!at(key).is_string()) wrong(key, "a string");
  return at(key).get<std::string>();
}

std::vector<std::int32_t> JsonFields::ids(const std::string& key) const {
  std::vector<std::int32_t> result;
  if (!has(key)) return result;
  const json& value = at(key);
  for (const json& id : value.is_array() ? value : json::array({value})) {
    if (!is_whole(id, INT32_MIN, INT32_MAX))
      fail(ExitCode::bad_data, "{}: \"{}{}\" holds {}, not a token id", where_, prefix_, key, id.dump());
    result.push_back(id.get<std::int32_t>());
  }
  return result;
}

void JsonFields::finish() const {
  for (const auto& field : object_.items()) {
    if (std::find(asked_.begin(), asked_.end(), field.key()) != asked_.end()) continue;
    const std::optional<std::string> meant = nearest_name(field.key(), asked_);
    fail(ExitCode::bad_data, "{}: the field \"{}{}\" is unknown{}", where_, prefix_, field.key(),
         meant ? fmt::format("; did you mean \"{}{}\"?", prefix_, *meant) : "");
  }
}

}  // namespace autoglm
