// Strict JSON: the one door through which settings, models' files and data come in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace autoglm {

// What is wrong with a text that should be JSON. what() says it without the place, in words for a line of data
// ("the key "a" is given twice"); who has other words for it goes by the kind.
class JsonError : public std::runtime_error {
 public:
  enum class Kind { syntax, number_too_large, key_twice, too_deep, nul_byte, byte_order_mark };

  JsonError(Kind kind, const std::string& message, std::size_t offset, std::string key = "");

  Kind kind() const { return kind_; }
  // Bytes that were read when it was noticed; 0 where it is the text as a whole.
  std::size_t offset() const { return offset_; }
  // The one that is there twice.
  const std::string& key() const { return key_; }

 private:
  Kind kind_;
  std::size_t offset_;
  std::string key_;
};

// Parses the one JSON value that `text` is. Stricter than the library alone: keys given twice in one object,
// nesting above 64, NUL bytes (which the library takes for the end), a byte order mark, and NaN or infinite
// numbers are errors. Strings of the result are valid UTF-8. Throws JsonError.
nlohmann::json parse_json(std::string_view text);

// The same for the text of a file: throws Error(bad_data) that names `source` and, where there is one place,
// line and column.
nlohmann::json parse_json(std::string_view text, std::string_view source);

// Above it no file of settings is read.
inline constexpr std::uint64_t kLargestJsonFile = std::uint64_t{64} << 20;

// A whole file. Throws as read_text_file() does, and Error(bad_data) as above.
nlohmann::json read_json_file(const std::filesystem::path& file);

}  // namespace autoglm
