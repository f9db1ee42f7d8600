// Reading the program's own settings files strictly: every message names file and field.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

// The fields of one JSON object. Each one that is asked for must be there; finish() refuses any other.
class ConfigFields {
 public:
  // `prefix` stands before the names of fields in messages ("link." for an object within another).
  ConfigFields(const nlohmann::json& object, std::string where, std::string prefix = "");

  std::string text(const std::string& key);
  std::vector<std::string> texts(const std::string& key);
  std::int64_t bytes(const std::string& key);  // a whole number of at least 0
  std::int64_t count(const std::string& key);  // a whole number of at least 1
  double positive(const std::string& key);     // a number above 0
  double fraction(const std::string& key);     // a number above 0 and up to 1
  bool is_null(const std::string& key);
  ConfigFields object(const std::string& key);

  // Refuses fields that nobody asked for.
  void finish() const;

  // Throws Error(bad_data) about one field.
  [[noreturn]] void wrong(const std::string& key, const std::string& what) const;

 private:
  const nlohmann::json& at(const std::string& key);

  const nlohmann::json& object_;
  std::string where_;
  std::string prefix_;
  std::vector<std::string> asked_;
};

// A whole file as JSON: Error(missing_input) when it cannot be read, Error(bad_data) when it holds none.
nlohmann::json read_config_file(const std::filesystem::path& file);

// The *.json files of a folder in the order of their names: Error(missing_input) when it cannot be read or
// holds none.
std::vector<std::filesystem::path> list_config_files(const std::filesystem::path& directory);

// Lower case, with a hyphen where a space or an underscore was.
std::string comparable_name(std::string_view name);

// Throws Error(usage): there is no `kind` of that name; which was perhaps meant, and which there are.
[[noreturn]] void fail_unknown_name(std::string_view kind, std::string_view name,
                                    const std::vector<std::string>& known,
                                    const std::vector<std::string>& also_known = {});

}  // namespace autoglm
