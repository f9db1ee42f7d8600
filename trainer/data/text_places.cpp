#include "trainer/data/text_places.h"

#include <algorithm>
#include <array>

#include "trainer/data/conversation.h"
#include "trainer/data/jinja/unicode_space.h"

namespace autoglm {
namespace {

// U+E000 + code.
std::string private_character(unsigned code) {
  return {'\xEE', static_cast<char>(0x80 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

constexpr unsigned kNumPrivate = 0x1000;  // those that begin with the byte EE

bool continues_character(std::string_view text, std::size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
}

std::string_view without_line_ends(std::string_view text, bool at_end) {
  while (text.starts_with('\n')) text.remove_prefix(1);
  while (at_end && text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

// What templates make of a text without leaving anything out.
std::array<std::string_view, 6> forms_of(std::string_view text) {
  return {text,
          strip_space(text),
          strip_space_right(text),
          strip_space_left(text),
          without_line_ends(text, true),
          without_line_ends(text, false)};
}

}  // namespace

Marks::Marks(std::span<const std::string_view> texts, std::size_t count) {
  constexpr unsigned kOpening = 16;  // the ones before it are the digits
  const auto occurs = [&](const std::string& character) {
    return std::any_of(texts.begin(), texts.end(),
                       [&](std::string_view text) { return text.find(character) != std::string_view::npos; });
  };
  for (unsigned code = kOpening; code < kNumPrivate && open_.empty(); ++code) {
    std::string character = private_character(code);
    if (!occurs(character)) open_ = std::move(character);
  }
  if (open_.empty())
    throw SampleError("it uses every private character, and none is left to find its turns with");
  for (std::size_t i = 0; i < count; ++i) {
    std::string mark = open_;
    for (std::size_t rest = i; rest > 0; rest /= kOpening)
      mark += private_character(static_cast<unsigned>(rest % kOpening));
    marks_.push_back(mark + open_);
  }
}

std::optional<std::size_t> Marks::at(std::string_view text, std::size_t at) const {
  std::size_t index = 0, factor = 1;
  for (at += open_.size(); at + open_.size() <= text.size(); at += open_.size(), factor *= 16) {
    if (text.compare(at, open_.size(), open_) == 0)
      return index < marks_.size() ? std::optional(index) : std::nullopt;
    index += factor * (static_cast<unsigned char>(text[at + 2]) & 0x3F);
    if (factor > marks_.size()) break;
  }
  return std::nullopt;
}

std::optional<TextPlaces> find_places(std::string_view rendered, std::string_view marked,
                                      std::span<const std::string_view> texts, const Marks& marks) {
  TextPlaces places(texts.size());
  std::size_t in_text = 0, in_marked = 0;
  TextPlace* last = nullptr;
  while (true) {
    const std::size_t mark_at = std::min(marks.find(marked, in_marked), marked.size());
    const std::string_view markup = marked.substr(in_marked, mark_at - in_marked);
    if (rendered.substr(in_text, markup.size()) != markup) return std::nullopt;
    const std::size_t markup_begin = in_text;
    in_text += markup.size();
    if (last != nullptr) last->markup_end = in_text;
    if (mark_at == marked.size()) break;
    const std::optional<std::size_t> index = marks.at(marked, mark_at);
    if (!index || places[*index]) return std::nullopt;
    in_marked = mark_at + marks[*index].size();
    const std::size_t next = std::min(marks.find(marked, in_marked), marked.size());
    const std::string_view following = marked.substr(in_marked, next - in_marked);
    const auto forms = forms_of(texts[*index]);
    const auto form = std::find_if(forms.begin(), forms.end(), [&](std::string_view one) {
      const std::size_t end = in_text + one.size();
      return rendered.substr(in_text).starts_with(one) && rendered.substr(end).starts_with(following) &&
             (next < marked.size() || end + following.size() == rendered.size());
    });
    if (form == forms.end()) return std::nullopt;
    places[*index] = TextPlace{in_text, in_text + form->size(), markup_begin, 0};
    in_text += form->size();
    last = &*places[*index];
  }
  return in_text == rendered.size() ? std::optional(std::move(places)) : std::nullopt;
}

std::optional<TextPlace> find_difference(std::string_view rendered, std::string_view marked,
                                         const std::string& mark) {
  if (marked.find(mark) == std::string_view::npos) return std::nullopt;
  const std::size_t size = rendered.size();
  std::size_t begin = static_cast<std::size_t>(
      std::mismatch(rendered.begin(), rendered.end(), marked.begin(), marked.end()).first - rendered.begin());
  const std::size_t common = static_cast<std::size_t>(
      std::mismatch(rendered.rbegin(), rendered.rend(), marked.rbegin(), marked.rend()).first -
      rendered.rbegin());
  while (begin > 0 && continues_character(rendered, begin)) --begin;
  std::size_t end = std::max(begin, size - std::min(common, size - begin));
  while (continues_character(rendered, end)) ++end;
  // Nothing stands there, and not because of the text alone: the template left out what is around it too.
  if (begin == end && size + mark.size() != marked.size()) return std::nullopt;
  return TextPlace{begin, end, 0, size};
}

}  // namespace autoglm
