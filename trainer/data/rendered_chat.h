// What a template makes of a conversation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace autoglm {

// Bytes [begin, end) of a rendered text. A token that begins in there is trained.
struct LossSpan {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  bool as_eos = false;  // the label is the model's end-of-sequence token instead of the token itself
};

struct RenderedChat {
  std::string text;
  // What the model's own template renders ends here. Behind it stands what training adds: the token that ends
  // the last answer where the template leaves that to the next turn.
  std::size_t template_end = 0;
  std::vector<LossSpan> spans;      // ordered; where two overlap, the later one counts
  std::vector<LossSpan> untrained;  // turns that are left out whatever the loss is on; ordered
  // No markup: the tokens that the tokenizer itself puts first (bos) belong before it.
  bool running_text = false;
  // A trained answer does not begin with the text after which the model is to answer, such as <think>.
  bool opens_otherwise = false;
  // The template left out or rewrote a part of a trained answer.
  bool changes_answer = false;
};

}  // namespace autoglm
