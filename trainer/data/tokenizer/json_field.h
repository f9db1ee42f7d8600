// A field of a tokenizer.json with its place, so that whatever is wrong with it can be said by name.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace autoglm {

// `text` in JSON's quotes for a message, cut when it is long.
std::string quote(std::string_view text);

// Refers to a value in a tree that must outlive it. All failures are Error(bad_data) naming the file and the
// field.
class Field {
 public:
  Field(const nlohmann::json& value, std::string path, std::string_view file)
      : value_(&value), path_(std::move(path)), file_(file) {}

  const std::string& path() const { return path_; }
  bool is_null() const;
  bool is_object() const;

  // "FILE: field 'PATH' PROBLEM".
  [[noreturn]] void refuse(const std::string& problem) const;

  // Fails unless this is an object, or when it has a key that is not listed.
  void allow_only(std::initializer_list<std::string_view> keys) const;

  // A member that must exist; a member that may be missing or null.
  Field at(std::string_view key) const;
  std::optional<Field> find(std::string_view key) const;

  // Elements of a list.
  std::size_t size() const;
  Field at(std::size_t index) const;

  // Values, which must have this type.
  std::string as_string() const;
  bool as_bool() const;
  std::uint64_t as_unsigned(std::uint64_t limit) const;  // an integer of at most `limit`
  char32_t as_character() const;                         // a string of one character

  // The value of a boolean member, or `fallback` when it is missing or null.
  bool bool_or(std::string_view key, bool fallback) const;

  // "type", which must exist.
  std::string type() const { return at("type").as_string(); }

  // Fails: this field's type is not one that is supported.
  [[noreturn]] void refuse_type(const std::string& type, std::string_view supported) const;

  const nlohmann::json& json() const { return *value_; }

 private:
  const nlohmann::json* value_;
  std::string path_;
  std::string_view file_;
};

}  // namespace autoglm
