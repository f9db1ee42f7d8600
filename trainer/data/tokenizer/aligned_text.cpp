#include "trainer/data/tokenizer/aligned_text.h"

#include "base/error.h"

namespace autoglm {

AlignedText::AlignedText(const AlignedText& text, Span part)
    : view_(text.view_.substr(part.begin, part.size())),
      base_(text.begin_of(part.begin)),
      tracked_(text.tracked_),
      changed_(text.changed_) {
  if (changed_ && tracked_) begins_view_ = text.begins_view_.subspan(part.begin, part.size());
}

void AlignedText::Builder::check_room(std::size_t bytes) const {
  if (out_.size() + bytes > kMaxBytes)
    fail(ExitCode::bad_data, "a text grows beyond {} bytes as tokenizer.json asks for; split it", kMaxBytes);
}

void AlignedText::Builder::copy(Span span) {
  check_room(span.size());
  out_.append(text_.view_, span.begin, span.size());
  if (text_.tracked_)
    for (std::uint32_t i = span.begin; i < span.end; ++i) begins_.push_back(text_.begin_of(i));
}

void AlignedText::Builder::insert(std::string_view bytes, std::uint32_t begin) {
  check_room(bytes.size());
  out_.append(bytes);
  if (text_.tracked_) begins_.insert(begins_.end(), bytes.size(), begin);
}

void AlignedText::Builder::apply(AlignedText& text) && {
  text.text_ = std::move(out_);
  text.begins_ = std::move(begins_);
  text.view_ = text.text_;
  text.begins_view_ = text.begins_;
  text.changed_ = true;
}

void AlignedText::prepend(std::string_view prefix) {
  Builder builder(*this);
  builder.insert(prefix, begin_of(0));
  builder.copy({0, static_cast<std::uint32_t>(view_.size())});
  std::move(builder).apply(*this);
}

void AlignedText::replace(std::span<const Match> matches, std::string_view content) {
  Builder builder(*this);
  for (const Match& match : matches) {
    if (!match.matches) {
      builder.copy(match.span);
      continue;
    }
    std::uint32_t last = match.span.end - 1;
    while (last > match.span.begin && (static_cast<unsigned char>(view_[last]) & 0xC0) == 0x80) --last;
    builder.insert(content, begin_of(last));
  }
  std::move(builder).apply(*this);
}

}  // namespace autoglm
