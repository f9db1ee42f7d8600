#include "checkpoint/json_text.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"

namespace autoglm {
namespace {

constexpr std::size_t kMaxDepth = 64;

using nlohmann::json;

[[noreturn]] void fail_at(std::string_view source, std::string_view text, std::size_t position,
                          std::string_view problem) {
  const std::string_view before = text.substr(0, std::min(position, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t last_break = before.rfind('\n');
  const std::size_t column = 1 + before.size() - (last_break == std::string_view::npos ? 0 : last_break + 1);
  fail(ExitCode::bad_data, "{}:{}:{}: {}", source, line, column, problem);
}

// Builds the value from the parser's events. The library's own way of watching the parser, a callback, takes
// time quadratic in the number of an object's members.
class Builder : public nlohmann::json_sax<json> {
 public:
  Builder(std::string_view source, std::string_view text) : source_(source), text_(text) {}

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
    if (!added) fail(ExitCode::bad_data, "{}: holds the key \"{}\" twice", source_, name);
    member_ = &member->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const json::exception& error) override {
    const bool too_large = dynamic_cast<const json::out_of_range*>(&error) != nullptr;
    fail_at(source_, text_, position == 0 ? 0 : position - 1,
            too_large ? "holds a number that is too large" : "is not valid JSON");
  }

 private:
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
      fail(ExitCode::bad_data, "{}: is nested more than {} deep", source_, kMaxDepth);
    open_.push_back(place(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view source_;
  std::string_view text_;
  json root_;
  std::vector<json*> open_;  // the objects and arrays around the next value
  json* member_ = nullptr;   // of the innermost object, for the next value
};

// Walks text that is known to be valid JSON.
class Walker {
 public:
  explicit Walker(std::string_view text) : text_(text) {}

  // Standing before an object: stands before the value of `key` afterwards, or returns false.
  bool enter(std::string_view key) {
    skip_space();
    if (peek() != '{') return false;
    ++position_;
    for (skip_space(); peek() == '"'; skip_space()) {
      const std::size_t begin = position_;
      skip_string();
      const std::string_view name = text_.substr(begin + 1, position_ - begin - 2);
      skip_space();
      ++position_;  // the colon
      skip_space();
      if (name == key) return true;
      skip_value();
      skip_space();
      if (peek() == ',') ++position_;
    }
    return false;
  }

  TextRange value() {
    const std::size_t begin = position_;
    skip_value();
    return {begin, position_};
  }

 private:
  char peek() const { return position_ < text_.size() ? text_[position_] : '\0'; }

  void skip_space() { position_ = std::min(text_.find_first_not_of(" \t\r\n", position_), text_.size()); }

  void skip_string() {
    for (++position_; position_ < text_.size() && peek() != '"'; ++position_) {
      if (peek() == '\\') ++position_;
    }
    ++position_;
  }

  void skip_value() {
    int depth = 0;
    do {
      const char first = peek();
      if (first == '"') {
        skip_string();
      } else if (first == '{' || first == '[') {
        ++depth;
        ++position_;
      } else if (first == '}' || first == ']') {
        --depth;
        ++position_;
      } else if (depth == 0) {  // a number, true, false, null
        position_ = std::min(text_.find_first_of(" \t\r\n,}]", position_), text_.size());
      } else {
        ++position_;
      }
    } while (depth > 0 && position_ < text_.size());
  }

  std::string_view text_;
  std::size_t position_ = 0;
};

}  // namespace

json parse_json(std::string_view text, std::string_view source) {
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    fail_at(source, text, zero, "holds a NUL byte, so it is not JSON");
  }
  if (text.starts_with("\xEF\xBB\xBF")) fail_at(source, text, 0, "starts with a byte order mark; remove it");
  Builder builder(source, text);
  json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

std::optional<TextRange> locate_json_value(std::string_view text,
                                           std::initializer_list<std::string_view> path) {
  Walker walker(text);
  for (const std::string_view key : path) {
    if (!walker.enter(key)) return std::nullopt;
  }
  return walker.value();
}

}  // namespace autoglm
