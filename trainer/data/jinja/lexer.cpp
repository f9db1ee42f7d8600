#include "trainer/data/jinja/lexer.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "trainer/data/jinja/unicode_space.h"
#include "trainer/data/jinja/value.h"

namespace autoglm::jinja {
namespace {

bool is_name_start(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_space(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}

void append_utf8(std::uint32_t code, std::string& out) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

// Cuts the tokens of one tag.
class TagLexer {
 public:
  explicit TagLexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    std::vector<Token> tokens;
    for (;;) {
      while (at_ < source_.size() && is_space(source_[at_])) ++at_;
      if (at_ == source_.size()) break;
      tokens.push_back(next());
    }
    tokens.emplace_back();
    return tokens;
  }

 private:
  Token next() {
    const char c = source_[at_];
    if (is_name_start(c))
      return {Token::Kind::name, take_while([](char x) { return is_name_start(x) || is_digit(x); })};
    if (is_digit(c)) return number();
    if (c == '"' || c == '\'') return {Token::Kind::string, string(c)};
    static constexpr std::array<std::string_view, 6> kPairs = {"==", "!=", "<=", ">=", "//", "**"};
    for (const std::string_view pair : kPairs) {
      if (source_.substr(at_, 2) == pair) {
        at_ += 2;
        return {Token::Kind::symbol, std::string(pair)};
      }
    }
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(c) == std::string_view::npos) {
      throw TemplateError(fmt::format("the character '{}' is not expected in a tag", c));
    }
    ++at_;
    return {Token::Kind::symbol, std::string(1, c)};
  }

  template <typename Predicate>
  std::string take_while(Predicate accepts) {
    const std::size_t begin = at_;
    while (at_ < source_.size() && accepts(source_[at_])) ++at_;
    return std::string(source_.substr(begin, at_ - begin));
  }

  Token number() {
    std::string text = take_while(is_digit);
    if (at_ + 1 < source_.size() && source_[at_] == '.' && is_digit(source_[at_ + 1])) {
      ++at_;
      return {Token::Kind::real, text + "." + take_while(is_digit)};
    }
    if (text.size() > 18) throw TemplateError("a number is too large");
    return {Token::Kind::integer, text};
  }

  std::string string(char quote) {
    std::string value;
    for (++at_; at_ < source_.size() && source_[at_] != quote; ++at_) {
      if (source_[at_] == '\\' && at_ + 1 < source_.size()) {
        ++at_;
        escape(value);
      } else {
        value += source_[at_];
      }
    }
    if (at_ == source_.size()) throw TemplateError("a string is not closed");
    ++at_;
    return value;
  }

  void escape(std::string& value) {
    static constexpr std::string_view kLetters = "abfnrtv0\\'\"";
    static constexpr std::string_view kValues("\a\b\f\n\r\t\v\0\\'\"", 11);
    const char c = source_[at_];
    if (const std::size_t index = kLetters.find(c); index != std::string_view::npos) {
      value += kValues[index];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      std::uint32_t code = 0;
      for (std::size_t i = 0; i < digits; ++i) code = code * 16 + hex_digit();
      append_utf8(code, value);
    } else {
      value += '\\';
      value += c;
    }
  }

  std::uint32_t hex_digit() {
    static constexpr std::string_view kDigits = "0123456789abcdef";
    ++at_;
    const char c = at_ < source_.size()
                       ? static_cast<char>(std::tolower(static_cast<unsigned char>(source_[at_])))
                       : '?';
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) throw TemplateError("an escape in a string is cut short");
    return static_cast<std::uint32_t>(digit);
  }

  std::string_view source_;
  std::size_t at_ = 0;
};

// Index of the tag's closing mark. Quotes hide it, except in comments.
std::size_t find_end(std::string_view source, std::size_t from, std::string_view mark) {
  char quote = 0;
  for (std::size_t i = from; i + 1 < source.size(); ++i) {
    const char c = source[i];
    if (quote != 0) {
      if (c == '\\') ++i;
      if (c == quote) quote = 0;
    } else if (source.substr(i, 2) == mark) {
      return i;
    } else if (mark != "#}" && (c == '"' || c == '\'')) {
      quote = c;
    }
  }
  throw TemplateError(fmt::format("a tag is not closed with {}", mark));
}

std::size_t find_tag(std::string_view source, std::size_t from) {
  for (std::size_t i = source.find('{', from); i != std::string_view::npos; i = source.find('{', i + 1)) {
    if (i + 1 < source.size() && std::string_view("{%#").find(source[i + 1]) != std::string_view::npos)
      return i;
  }
  return source.size();
}

// Removes the blanks between the last newline and the tag, if nothing else stands there.
void strip_line_start(std::string& text, bool at_line_start) {
  const std::size_t newline = text.rfind('\n');
  if (newline == std::string::npos && !at_line_start) return;
  const std::size_t begin = newline == std::string::npos ? 0 : newline + 1;
  if (std::all_of(text.begin() + static_cast<std::ptrdiff_t>(begin), text.end(), is_space))
    text.resize(begin);
}

std::string normalize_newlines(std::string_view source) {
  std::string text;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

std::vector<Segment> tokenize(std::string_view raw_source) {
  const std::string normalized = normalize_newlines(raw_source);
  const std::string_view source = normalized;
  std::vector<Segment> segments;
  std::size_t at = 0;
  bool at_line_start = true;
  while (at < source.size()) {
    const std::size_t tag = find_tag(source, at);
    std::string text(source.substr(at, tag - at));
    if (tag == source.size()) {
      segments.push_back({Segment::Kind::text, std::move(text), {}});
      break;
    }
    const char kind = source[tag + 1];
    std::size_t inside = tag + 2;
    const char opening = inside < source.size() ? source[inside] : ' ';
    if (opening == '-') {
      text = strip_space_right(text);
    } else if (opening != '+' && kind != '{') {
      strip_line_start(text, at_line_start);
    }
    if (opening == '-' || (opening == '+' && kind != '{')) ++inside;
    if (!text.empty()) segments.push_back({Segment::Kind::text, std::move(text), {}});

    const std::string_view mark = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
    const std::size_t end = find_end(source, inside, mark);
    const char closing = end > inside ? source[end - 1] : ' ';
    const bool marked = closing == '-' || (closing == '+' && kind != '{');
    const std::string_view content = source.substr(inside, end - inside - (marked ? 1 : 0));
    if (kind != '#') {
      segments.push_back(
          {kind == '{' ? Segment::Kind::output : Segment::Kind::block, {}, TagLexer(content).run()});
    }
    at = end + 2;
    if (closing == '-') {
      const std::string_view rest = source.substr(at);
      at += rest.size() - strip_space_left(rest).size();
    } else if (closing != '+' && kind != '{' && at < source.size() && source[at] == '\n') {
      ++at;
    }
    at_line_start = at > 0 && source[at - 1] == '\n';
  }
  return segments;
}

}  // namespace autoglm::jinja
