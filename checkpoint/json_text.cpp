#include "checkpoint/json_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace autoglm {
namespace {

// Whether a string of JSON, in its quotes, is this text: it may be written with escapes.
bool is_text(std::string_view quoted, std::string_view text) {
  if (quoted.find('\\') == std::string_view::npos) return quoted.substr(1, quoted.size() - 2) == text;
  return parse_json(quoted) == text;
}

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
      const std::string_view quoted = text_.substr(begin, position_ - begin);
      skip_space();
      ++position_;  // the colon
      skip_space();
      if (is_text(quoted, key)) return true;
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

std::optional<TextRange> locate_json_value(std::string_view text,
                                           std::initializer_list<std::string_view> path) {
  Walker walker(text);
  for (const std::string_view key : path) {
    if (!walker.enter(key)) return std::nullopt;
  }
  return walker.value();
}

}  // namespace autoglm
