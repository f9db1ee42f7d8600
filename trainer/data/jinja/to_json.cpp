#include "trainer/data/jinja/to_json.h"

#include <fmt/core.h>

#include <optional>

namespace autoglm::jinja {
namespace {

constexpr std::size_t kDeepest = 100;

class JsonWriter {
 public:
  explicit JsonWriter(std::optional<std::size_t> indent) : indent_(indent) {}

  std::string run(const Value& value) {
    write(value);
    return std::move(text_);
  }

 private:
  void write(const Value& value) {
    if (value.is_none()) {
      text_ += "null";
    } else if (value.is_bool()) {
      text_ += value.truth() ? "true" : "false";
    } else if (value.is_integer()) {
      text_ += std::to_string(value.as_integer());
    } else if (value.is_string()) {
      write_string(value.as_string());
    } else if (value.is_list()) {
      write_items(
          '[', value.items(), [this](const Value& item) { write(item); }, ']');
    } else if (value.is_dict()) {
      const auto write_entry = [this](const std::pair<std::string, Value>& entry) {
        write_string(entry.first);
        text_ += ": ";
        write(entry.second);
      };
      write_items('{', value.entries(), write_entry, '}');
    } else {
      throw TemplateError("a value is written as JSON that is not supported there");
    }
  }

  template <typename Items, typename Write>
  void write_items(char open, const Items& items, const Write& write_one, char close) {
    if (++depth_ > kDeepest) throw TemplateError("JSON is nested too deeply");
    text_ += open;
    bool first = true;
    for (const auto& item : items) {
      if (!first) text_ += indent_ ? "," : ", ";
      first = false;
      new_line(depth_);
      write_one(item);
    }
    --depth_;
    if (!first) new_line(depth_);
    text_ += close;
  }

  void new_line(std::size_t depth) {
    if (indent_) text_ += '\n' + std::string(*indent_ * depth, ' ');
  }

  void write_string(const std::string& text) {
    static constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b";
    static constexpr std::string_view kLetters = "\"\\nrtfb";
    text_ += '"';
    for (const char c : text) {
      if (const std::size_t at = kEscaped.find(c); at != std::string_view::npos) {
        text_ += '\\';
        text_ += kLetters[at];
      } else if (static_cast<unsigned char>(c) < 0x20) {
        text_ += fmt::format("\\u{:04x}", static_cast<int>(c));
      } else {
        text_ += c;
      }
    }
    text_ += '"';
  }

  std::string text_;
  std::optional<std::size_t> indent_;
  std::size_t depth_ = 0;
};

}  // namespace

std::string to_json(const Value& value, const Value& indent) {
  std::optional<std::size_t> spaces;
  if (!indent.is_undefined() && !indent.is_none()) {
    if (indent.as_integer() < 0 || indent.as_integer() > 16)
      throw TemplateError("JSON is indented by 0 to 16 blanks");
    spaces = static_cast<std::size_t>(indent.as_integer());
  }
  return JsonWriter(spaces).run(value);
}

}  // namespace autoglm::jinja
