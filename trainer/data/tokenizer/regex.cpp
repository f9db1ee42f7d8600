// The general route for regular expressions: Oniguruma, which the `tokenizers` package uses too, but with the
// package's Unicode tables written into the expression, for the library of a distribution may have older
// ones.
#include <fmt/format.h>
#include <oniguruma.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "trainer/data/tokenizer/pattern.h"
#include "trainer/data/tokenizer/unicode_tables.h"
#include "trainer/data/tokenizer/utf8.h"

namespace autoglm {
namespace {

constexpr std::size_t kMaxRegexBytes = 16384;
constexpr std::size_t kMaxRewrittenBytes = 1 << 20;

// Rewrites \p{...}, \P{...}, \d and \D to ranges of code points. Refuses what would depend on the library's
// tables.
class Rewriter {
 public:
  Rewriter(std::string_view regex, const Field& field) : regex_(regex), field_(field) {}

  std::string rewrite() {
    while (at_ < regex_.size()) {
      const char c = regex_[at_];
      if (c == '\\') {
        escape();
      } else if (depth_ > 0 && regex_.substr(at_, 2) == "[:") {
        field_.refuse(
            "uses a class like [:alpha:], which is not supported; write \\p{...} with a general category");
      } else if (c == '[') {
        open_bracket();
      } else {
        if (c == ']' && depth_ > 0) --depth_;
        out_ += c;
        ++at_;
      }
    }
    return std::move(out_);
  }

 private:
  void open_bracket() {
    ++depth_;
    out_ += regex_[at_++];
    if (at_ < regex_.size() && regex_[at_] == '^') out_ += regex_[at_++];
    if (at_ < regex_.size() && regex_[at_] == ']') out_ += regex_[at_++];  // literal in this place
  }

  void escape() {
    const char c = at_ + 1 < regex_.size() ? regex_[at_ + 1] : '\0';
    if (c == 'd' || c == 'D') {
      write_class(unicode::categories_of("Nd"), c == 'D');
      at_ += 2;
    } else if (c == 'p' || c == 'P') {
      property(c == 'P');
    } else if (std::string_view("wWbBXyY").find(c) != std::string_view::npos && c != '\0') {
      if (!(c == 'b' && depth_ > 0))
        field_.refuse(
            fmt::format("uses \\{}, which is not supported; write \\p{{...}} with a general category", c));
      copy_escape();
    } else {
      copy_escape();
    }
  }

  void copy_escape() {
    out_ += regex_.substr(at_, 2);
    at_ = std::min(at_ + 2, regex_.size());
  }

  void property(bool negated) {
    const std::size_t end = regex_.find('}', at_);
    if (regex_.substr(at_ + 2, 1) != "{" || end == std::string_view::npos) return copy_escape();
    std::string_view name = regex_.substr(at_ + 3, end - at_ - 3);
    if (!name.empty() && name[0] == '^') {
      negated = !negated;
      name.remove_prefix(1);
    }
    const std::uint32_t categories = unicode::categories_of(name);
    if (categories == 0)
      field_.refuse(
          fmt::format("uses the property {}, which is not supported; supported are the general categories "
                      "(L, Lu, N, Nd, P, ...)",
                      quote(name)));
    write_class(categories, negated);
    at_ = end + 1;
  }

  void write_class(std::uint32_t categories, bool negated) {
    if (negated) categories = ~categories & ((1u << unicode::kCategories) - 1);
    if (depth_ == 0) out_ += '[';
    for (const unicode::Tables::Range& range : unicode::Tables::get().ranges_of(categories))
      out_ += fmt::format("\\x{{{:X}}}-\\x{{{:X}}}", static_cast<std::uint32_t>(range.first),
                          static_cast<std::uint32_t>(range.last));
    if (depth_ == 0) out_ += ']';
  }

  std::string_view regex_;
  const Field& field_;
  std::size_t at_ = 0;
  int depth_ = 0;  // of brackets
  std::string out_;
};

const OnigUChar* bytes_of(const char* text) {
  return reinterpret_cast<const OnigUChar*>(text);
}

std::string message_of(int code, OnigErrorInfo* info) {
  OnigUChar buffer[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = info ? onig_error_code_to_str(buffer, code, info) : onig_error_code_to_str(buffer, code);
  return std::string(reinterpret_cast<const char*>(buffer), static_cast<std::size_t>(length));
}

struct Free {
  void operator()(regex_t* regex) const { onig_free(regex); }
  void operator()(OnigRegion* region) const { onig_region_free(region, 1); }
};

class RegexPattern final : public Pattern {
 public:
  RegexPattern(const std::string& regex, const Field& field) : place_(field.path()) {
    static const int initialized = [] {
      OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
      return onig_initialize(encodings, 1);
    }();
    AUTOGLM_CHECK(initialized == ONIG_NORMAL, "Oniguruma does not start");
    if (regex.size() > kMaxRegexBytes) field.refuse(fmt::format("is longer than {} bytes", kMaxRegexBytes));
    const std::string rewritten = Rewriter(regex, field).rewrite();
    if (rewritten.size() > kMaxRewrittenBytes) field.refuse("uses too many classes of characters");
    regex_t* compiled = nullptr;
    OnigErrorInfo info;
    const int code =
        onig_new(&compiled, bytes_of(rewritten.data()), bytes_of(rewritten.data() + rewritten.size()),
                 ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
    if (code != ONIG_NORMAL) field.refuse("is no regular expression: " + message_of(code, &info));
    regex_.reset(compiled);
  }

  void find(std::string_view text, std::vector<Match>& out) const override {
    const std::unique_ptr<OnigRegion, Free> region(onig_region_new());
    std::uint32_t rest = 0;
    std::optional<std::size_t> last_end;
    for (std::size_t from = 0; from <= text.size();) {
      if (!search(text, from, *region)) break;
      const auto begin = static_cast<std::uint32_t>(region->beg[0]),
                 end = static_cast<std::uint32_t>(region->end[0]);
      if (begin == end && last_end == end) {  // an empty match right behind a match does not count
        from += from < text.size() ? utf8::decode(text, from).length : 1;
        continue;
      }
      push_match(out, rest, {begin, end});
      last_end = from = end;
    }
    push_rest(out, rest, text.size());
  }

 private:
  bool search(std::string_view text, std::size_t from, OnigRegion& region) const {
    const OnigUChar* begin = bytes_of(text.data());
    const OnigUChar* end = begin + text.size();
    const int found = onig_search(regex_.get(), begin, end, begin + from, end, &region, ONIG_OPTION_NONE);
    if (found == ONIG_MISMATCH) return false;
    if (found < 0)
      fail(ExitCode::bad_data,
           "the regular expression '{}' of tokenizer.json gave up on a text of {} bytes: {}", place_,
           text.size(), message_of(found, nullptr));
    return true;
  }

  std::unique_ptr<regex_t, Free> regex_;
  std::string place_;
};

}  // namespace

std::unique_ptr<Pattern> make_regex_pattern(const std::string& regex, const Field& field) {
  return std::make_unique<RegexPattern>(regex, field);
}

}  // namespace autoglm
