// The fields of a JSON object that is somebody's settings: every message names file and field.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace autoglm {

// Refers to the object, which must outlive it. All failures are Error(bad_data). A field that is null counts as
// missing where there is something to take otherwise.
class JsonFields {
 public:
  // `prefix` stands before the names of fields in messages ("link." for an object within another). Throws unless
  // `object` is one.
  JsonFields(const nlohmann::json& object, std::string where, std::string prefix = "");

  const nlohmann::json& value() const { return object_; }
  const std::string& where() const { return where_; }

  // There, and not null.
  bool has(const std::string& key) const;
  bool is_null(const std::string& key) const;  // of a field that must be there

  // Fields that must be there.
  std::string text(const std::string& key) const;  // not empty
  std::vector<std::string> texts(const std::string& key) const;
  std::int64_t bytes(const std::string& key) const;      // a whole number of at least 0
  std::int64_t count(const std::string& key) const;      // a whole number of at least 1
  double positive_number(const std::string& key) const;  // a number above 0
  double fraction(const std::string& key) const;         // a number above 0 and up to 1
  JsonFields object(const std::string& key) const;

  // A whole number from 1 to `largest`. Must be there unless there is an `otherwise`.
  std::int64_t positive(const std::string& key, std::optional<std::int64_t> otherwise = {},
                        std::int64_t largest = 1 << 30) const;

  // Fields that may be missing.
  double number(const std::string& key, double otherwise) const;
  bool flag(const std::string& key, bool otherwise) const;
  std::string text(const std::string& key, const std::string& otherwise) const;
  std::vector<std::int32_t> ids(const std::string& key) const;  // of tokens: one or a list of them

  // Refuses fields that nobody asked for.
  void finish() const;

  // Throws about one field: it is missing, or not `what`.
  [[noreturn]] void wrong(const std::string& key, const std::string& what) const;

 private:
  const nlohmann::json& at(const std::string& key) const;

  const nlohmann::json& object_;
  std::string where_;
  std::string prefix_;
  mutable std::vector<std::string> asked_;
};

}  // namespace autoglm
