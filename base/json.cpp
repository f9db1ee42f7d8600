#include "base/json.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/regular_file.h"

namespace autoglm {
namespace {

using nlohmann::json;
using Kind = JsonError::Kind;

constexpr std::size_t kMaxDepth = 64;

// Builds the value from the parser's events. The library's own way of watching the parser, a callback, takes
// time quadratic in the number of an object's members.
class StrictBuilder : public nlohmann::json_sax<json> {
 public:
  json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& value) override { return add(std::move(value)); }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const auto [member, added] = open_.back()->get_ref<json::object_t&>().try_emplace(name);
    if (!added) throw JsonError(Kind::key_twice, fmt::format("the key \"{}\" is given twice", name), 0, name);
    member_ = &member->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& last_token,
                   const json::exception& error) override {
    const bool too_large = dynamic_cast<const json::out_of_range*>(&error) != nullptr;
    throw JsonError(too_large ? Kind::number_too_large : Kind::syntax, describe(last_token, error.what()),
                    position);
  }

 private:
  static std::string describe(const std::string& last_token, std::string_view what) {
    if (what.find("UTF-8") != std::string_view::npos) return "it is not valid UTF-8";
    const std::size_t detail = what.rfind("; expected ");
    std::string near;
    for (const char c : last_token.substr(0, 40)) {
      if (static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f) near += c;
    }
    return fmt::format(
        "not valid JSON near '{}'{}", near,
        detail == std::string_view::npos ? std::string() : fmt::format(" ({})", what.substr(detail + 2)));
  }

  json* place(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *member_ = std::move(value);
    return member_;
  }

  bool add(json value) {
    place(std::move(value));
    return true;
  }

  bool open(json value) {
    if (open_.size() == kMaxDepth)
      throw JsonError(Kind::too_deep, fmt::format("more than {} nested lists and objects", kMaxDepth), 0);
    open_.push_back(place(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  json root_;
  // The objects and arrays around the next value, outermost first. A pointer stays valid while its container
  // is open: only the innermost one grows.
  std::vector<json*> open_;
  json* member_ = nullptr;  // of the innermost object, for the next value
};

// What is wrong with a file, as it follows its name and place.
std::string_view problem_of_file(Kind kind) {
  switch (kind) {
    case Kind::number_too_large:
      return "holds a number that is too large";
    case Kind::nul_byte:
      return "holds a NUL byte, so it is not JSON";
    case Kind::byte_order_mark:
      return "starts with a byte order mark; remove it";
    default:
      return "is not valid JSON";
  }
}

// What people put into JSON by hand, and the parser stopped at; empty where it is something else.
std::string_view reason_at(std::string_view text, std::size_t position) {
  if (text.empty()) return ": it is empty";
  const std::string_view rest = text.substr(std::min(position, text.size()));
  const std::size_t last = text.substr(0, position).find_last_not_of(" \t\r\n");
  if ((rest.starts_with('}') || rest.starts_with(']')) && last != std::string_view::npos && text[last] == ',')
    return ": a comma stands before a closing bracket; take that comma out";
  if (rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with('#'))
    return ": JSON has no comments; take it out";
  if (rest.starts_with('\'')) return ": texts and names stand in double quotes";
  if (text.starts_with("version https://git-lfs"))
    return ": it is a Git LFS pointer; fetch the file with \"git lfs pull\"";
  return {};
}

[[noreturn]] void fail_file(const JsonError& error, std::string_view text, std::string_view source) {
  if (error.kind() == Kind::key_twice)
    fail(ExitCode::bad_data, "{}: holds the key \"{}\" twice", source, error.key());
  if (error.kind() == Kind::too_deep)
    fail(ExitCode::bad_data, "{}: is nested more than {} deep", source, kMaxDepth);
  const std::size_t position = error.offset() == 0 ? 0 : error.offset() - 1;
  const std::string_view before = text.substr(0, std::min(position, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t column = before.size() - (before.rfind('\n') + 1) + 1;
  fail(ExitCode::bad_data, "{}:{}:{}: {}{}", source, line, column, problem_of_file(error.kind()),
       error.kind() == Kind::syntax ? reason_at(text, position) : std::string_view());
}

}  // namespace

JsonError::JsonError(Kind kind, const std::string& message, std::size_t offset, std::string key)
    : std::runtime_error(message), kind_(kind), offset_(offset), key_(std::move(key)) {}

json parse_json(std::string_view text) {
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos)
    throw JsonError(Kind::nul_byte, "it holds a NUL byte, so it is not JSON", zero + 1);
  if (text.starts_with("\xEF\xBB\xBF"))
    throw JsonError(Kind::byte_order_mark, "it starts with a byte order mark; remove it", 0);
  StrictBuilder builder;
  json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

json parse_json(std::string_view text, std::string_view source) {
  try {
    return parse_json(text);
  } catch (const JsonError& error) {
    fail_file(error, text, source);
  }
}

json read_json_file(const std::filesystem::path& file) {
  return parse_json(read_text_file(file, kLargestJsonFile), file.string());
}

}  // namespace autoglm
