#include "trainer/data/tokenizer/json_field.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "trainer/data/tokenizer/utf8.h"

namespace autoglm {

std::string quote(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  const nlohmann::json cut = std::string(text.substr(0, kLongest));
  const std::string out = cut.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return text.size() > kLongest ? out + "..." : out;
}

bool Field::is_null() const {
  return value_->is_null();
}

bool Field::is_object() const {
  return value_->is_object();
}

void Field::refuse(const std::string& problem) const {
  fail(ExitCode::bad_data, "{}: field '{}' {}", file_, path_, problem);
}

void Field::refuse_type(const std::string& type, std::string_view supported) const {
  at("type").refuse(fmt::format("is {}, which is not supported; supported are {}", quote(type), supported));
}

void Field::allow_only(std::initializer_list<std::string_view> keys) const {
  if (!value_->is_object()) refuse("must be an object");
  for (const auto& [key, value] : value_->items())
    if (std::find(keys.begin(), keys.end(), key) == keys.end())
      Field(value, path_.empty() ? key : path_ + "." + key, file_)
          .refuse("is not known and may change the tokens");
}

Field Field::at(std::string_view key) const {
  const std::string name(key);
  if (!value_->is_object()) refuse("must be an object");
  const auto found = value_->find(name);
  const std::string path = path_.empty() ? name : path_ + "." + name;
  if (found == value_->end()) Field(*value_, path, file_).refuse("is missing");
  return Field(*found, path, file_);
}

std::optional<Field> Field::find(std::string_view key) const {
  if (!value_->is_object()) refuse("must be an object");
  const auto found = value_->find(std::string(key));
  if (found == value_->end() || found->is_null()) return std::nullopt;
  return at(key);
}

std::size_t Field::size() const {
  if (!value_->is_array()) refuse("must be a list");
  return value_->size();
}

Field Field::at(std::size_t index) const {
  return Field((*value_)[index], fmt::format("{}[{}]", path_, index), file_);
}

std::string Field::as_string() const {
  if (!value_->is_string()) refuse("must be a string");
  return value_->get<std::string>();
}

bool Field::as_bool() const {
  if (!value_->is_boolean()) refuse("must be true or false");
  return value_->get<bool>();
}

std::uint64_t Field::as_unsigned(std::uint64_t limit) const {
  if (!value_->is_number_unsigned()) refuse("must be a whole number of at least 0");
  const auto value = value_->get<std::uint64_t>();
  if (value > limit) refuse(fmt::format("is {}, above the limit of {}", value, limit));
  return value;
}

char32_t Field::as_character() const {
  const std::optional<char32_t> character = utf8::single_character(as_string());
  if (!character) refuse("must be a single character");
  return *character;
}

bool Field::bool_or(std::string_view key, bool fallback) const {
  const std::optional<Field> field = find(key);
  return field ? field->as_bool() : fallback;
}

}  // namespace autoglm
