// Where the texts of a conversation stand in what a template made of them, found by rendering it again with marks in
// their place.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

// Texts of private characters that occur in none of the given texts.
class Marks {
 public:
  // Throws SampleError when the texts leave no such character.
  Marks(std::span<const std::string_view> texts, std::size_t count);

  const std::string& operator[](std::size_t index) const { return marks_[index]; }
  // The mark that begins at `at` of the text, if one does.
  std::optional<std::size_t> at(std::string_view text, std::size_t at) const;
  // Where the next mark begins; npos when there is none.
  std::size_t find(std::string_view text, std::size_t from) const { return text.find(open_, from); }

 private:
  std::string open_;
  std::vector<std::string> marks_;
};

// Bytes [begin, end) of the rendered text, and the markup around them: it reaches from the end of the text before it,
// or the beginning, to the next text, or the end.
struct TextPlace {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::size_t markup_begin = 0;
  std::size_t markup_end = 0;
};

// The place of each text; nothing for one whose mark was not written.
using TextPlaces = std::vector<std::optional<TextPlace>>;

// `marked` is what the template writes with the marks instead of the texts. Nothing unless `rendered` is exactly that
// with each mark replaced by its text, as it is or without white space at its ends, so that there is no doubt.
std::optional<TextPlaces> find_places(std::string_view rendered, std::string_view marked,
                                      std::span<const std::string_view> texts, const Marks& marks);

// The place of one text, of which alone the mark was put into `marked`: what differs. Nothing if the mark is not in
// there, or if an empty text was left out with its markup. The markup around it is not known: it counts as reaching to both ends.
std::optional<TextPlace> find_difference(std::string_view rendered, std::string_view marked,
                                         const std::string& mark);

}  // namespace autoglm
