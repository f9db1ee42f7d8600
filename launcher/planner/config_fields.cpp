#include "launcher/planner/config_fields.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <fstream>

#include "base/error.h"
#include "base/nearest_name.h"

namespace autoglm {

ConfigFields::ConfigFields(const nlohmann::json& object, std::string where, std::string prefix)
    : object_(object), where_(std::move(where)), prefix_(std::move(prefix)) {
  if (!object_.is_object()) {
    if (prefix_.empty()) fail(ExitCode::bad_data, "{} does not hold a JSON object", where_);
    fail(ExitCode::bad_data, "{}: \"{}\" is not an object", where_, prefix_.substr(0, prefix_.size() - 1));
  }
}

void ConfigFields::wrong(const std::string& key, const std::string& what) const {
  fail(ExitCode::bad_data, "{}: \"{}{}\" is {}, not {}", where_, prefix_, key, object_.at(key).dump(), what);
}

const nlohmann::json& ConfigFields::at(const std::string& key) {
  if (!object_.contains(key))
    fail(ExitCode::bad_data, "{}: the field \"{}{}\" is missing", where_, prefix_, key);
  asked_.push_back(key);
  return object_.at(key);
}

std::string ConfigFields::text(const std::string& key) {
  const nlohmann::json& value = at(key);
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) wrong(key, "a text");
  return value.get<std::string>();
}

std::vector<std::string> ConfigFields::texts(const std::string& key) {
  const nlohmann::json& value = at(key);
  std::vector<std::string> result;
  if (!value.is_array()) wrong(key, "a list of texts");
  for (const nlohmann::json& element : value) {
    if (!element.is_string() || element.get_ref<const std::string&>().empty()) wrong(key, "a list of texts");
    result.push_back(element.get<std::string>());
  }
  return result;
}

std::int64_t ConfigFields::bytes(const std::string& key) {
  const nlohmann::json& value = at(key);
  constexpr std::int64_t kLargest = std::int64_t{1} << 50;
  if (!value.is_number_integer() || value.get<std::int64_t>() < 0 || value.get<std::int64_t>() > kLargest)
    wrong(key, "a number of bytes");
  return value.get<std::int64_t>();
}

std::int64_t ConfigFields::count(const std::string& key) {
  const nlohmann::json& value = at(key);
  constexpr std::int64_t kLargest = 1 << 20;
  if (!value.is_number_integer() || value.get<std::int64_t>() < 1 || value.get<std::int64_t>() > kLargest)
    wrong(key, "a number of at least 1");
  return value.get<std::int64_t>();
}

double ConfigFields::positive(const std::string& key) {
  const nlohmann::json& value = at(key);
  if (!value.is_number() || !(value.get<double>() > 0)) wrong(key, "a number above 0");
  return value.get<double>();
}

double ConfigFields::fraction(const std::string& key) {
  const double value = positive(key);
  if (value > 1) wrong(key, "a fraction up to 1");
  return value;
}

bool ConfigFields::is_null(const std::string& key) {
  return at(key).is_null();
}

ConfigFields ConfigFields::object(const std::string& key) {
  return ConfigFields(at(key), where_, prefix_ + key + ".");
}

void ConfigFields::finish() const {
  for (const auto& field : object_.items()) {
    if (std::find(asked_.begin(), asked_.end(), field.key()) != asked_.end()) continue;
    const std::optional<std::string> meant = nearest_name(field.key(), asked_);
    fail(ExitCode::bad_data, "{}: the field \"{}{}\" is unknown{}", where_, prefix_, field.key(),
         meant ? fmt::format("; did you mean \"{}{}\"?", prefix_, *meant) : "");
  }
}

nlohmann::json read_config_file(const std::filesystem::path& file) {
  std::ifstream stream(file);
  if (!stream) fail(ExitCode::missing_input, "{} cannot be read", file.string());
  nlohmann::json value = nlohmann::json::parse(stream, nullptr, false);
  if (value.is_discarded()) fail(ExitCode::bad_data, "{} is not JSON", file.string());
  return value;
}

std::vector<std::filesystem::path> list_config_files(const std::filesystem::path& directory) {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  if (error) fail(ExitCode::missing_input, "{} cannot be read: {}", directory.string(), error.message());
  if (files.empty()) fail(ExitCode::missing_input, "{} holds no .json file", directory.string());
  std::sort(files.begin(), files.end());
  return files;
}

std::string comparable_name(std::string_view name) {
  std::string result(name);
  for (char& character : result) {
    const bool joins = character == ' ' || character == '_';
    character = joins ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(character)));
  }
  return result;
}

void fail_unknown_name(std::string_view kind, std::string_view name, const std::vector<std::string>& known,
                       const std::vector<std::string>& also_known) {
  std::vector<std::string> all = known;
  all.insert(all.end(), also_known.begin(), also_known.end());
  const std::optional<std::string> meant = nearest_name(comparable_name(name), all);
  fail(ExitCode::usage, "there is no {} \"{}\"{}; known are {}", kind, name,
       meant ? fmt::format(" (did you mean {}?)", *meant) : "", fmt::join(known, ", "));
}

}  // namespace autoglm
