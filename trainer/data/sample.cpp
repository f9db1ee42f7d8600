#include "trainer/data/sample.h"

#include <algorithm>

#include "base/error.h"
#include "trainer/data/byte_io.h"

namespace autoglm {

std::size_t count_supervised(std::span<const std::int32_t> labels) {
  if (labels.empty()) return 0;
  return labels.size() - 1 -
         static_cast<std::size_t>(std::count(labels.begin() + 1, labels.end(), kIgnoredLabel));
}

SampleTokenizer::SampleTokenizer(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                 LossOn loss_on)
    : tokenizer_(tokenizer),
      template_(chat_template),
      loss_on_(loss_on),
      leading_ids_(leading_special_ids(tokenizer)),
      eos_id_(chat_template.eos_id(tokenizer)) {}

Sample SampleTokenizer::tokenize(const Conversation& conversation) const {
  const RenderedChat chat = template_.render(conversation, loss_on_);
  check_spelled_tokens(chat.text);
  Encoding encoding = tokenizer_.encode_with_offsets(chat.text);
  Sample sample;
  sample.opens_otherwise = chat.opens_otherwise;
  sample.changes_answer = chat.changes_answer;
  sample.ids = std::move(encoding.ids);
  sample.labels.assign(sample.ids.size(), kIgnoredLabel);
  const auto first_at = [&](std::uint32_t offset) {
    return std::lower_bound(encoding.begins.begin(), encoding.begins.end(), offset) - encoding.begins.begin();
  };
  for (const LossSpan& span : chat.spans) {
    const auto end = static_cast<std::size_t>(first_at(span.end));
    for (auto i = static_cast<std::size_t>(first_at(span.begin)); i < end; ++i) {
      sample.labels[i] = span.as_eos ? eos_id_.value() : sample.ids[i];
    }
  }
  if (chat.running_text) {
    check_ending(chat.text, sample.ids);
    const bool all_trained = !chat.spans.empty() && chat.spans.front().begin == 0 &&
                             (loss_on_ == LossOn::all || conversation.form == Conversation::Form::text);
    const auto first = static_cast<std::size_t>(first_at(
        static_cast<std::uint32_t>(std::min(chat.text.find_first_not_of(" \t\r\n"), chat.text.size()))));
    const std::span<const std::int32_t> leading = missing_in_front(std::span(sample.ids).subspan(first));
    sample.ids.insert(sample.ids.begin(), leading.begin(), leading.end());
    sample.labels.insert(sample.labels.begin(), leading.size(), kIgnoredLabel);
    if (all_trained) std::copy(leading.begin(), leading.end(), sample.labels.begin());
  }
  return sample;
}

std::span<const std::int32_t> SampleTokenizer::missing_in_front(std::span<const std::int32_t> ids) const {
  const std::span<const std::int32_t> leading(leading_ids_);
  for (std::size_t missing = 0; missing < leading.size(); ++missing) {
    const auto rest = leading.subspan(missing);
    if (rest.size() <= ids.size() && std::equal(rest.begin(), rest.end(), ids.begin()))
      return leading.first(missing);
  }
  return leading;
}

void SampleTokenizer::check_ending(std::string_view text, std::span<const std::int32_t> ids) const {
  const std::string eos = template_.special_tokens().eos.value_or("");
  if (eos.empty() || !text.ends_with(eos) || !eos_id_ || (!ids.empty() && ids.back() == *eos_id_)) return;
  throw SampleError(fmt::format(
      "the end token {} behind it is not found by the tokenizer, which would spell it in letters; "
      "its flags \"single_word\" and \"normalized\" must be false, in tokenizer.json and in "
      "tokenizer_config.json",
      eos));
}

void SampleTokenizer::check_spelled_tokens(const std::string& text) const {
  for (const std::string& token : template_.special_tokens().missing) {
    if (text.find(token) == std::string::npos) continue;
    throw SampleError(
        fmt::format("it holds {}, which files beside the model's tokenizer.json name as a token, but the "
                    "tokenizer does not "
                    "have it; add the token to tokenizer.json, or take it out of the text",
                    token));
  }
}

void SampleSet::append(const Sample& sample, std::size_t length, std::size_t begin) {
  AUTOGLM_CHECK(begin + length <= sample.ids.size() && sample.labels.size() == sample.ids.size());
  const auto first = sample.ids.begin() + static_cast<std::ptrdiff_t>(begin);
  ids_.insert(ids_.end(), first, first + static_cast<std::ptrdiff_t>(length));
  for (std::size_t i = begin; i < begin + length; ++i) {
    const std::int32_t label = sample.labels[i];
    const bool is_token = label == sample.ids[i];
    AUTOGLM_CHECK(is_token || label == kIgnoredLabel || label == eos_id_, "label {} of token {}", label,
                  sample.ids[i]);
    kinds_.push_back(is_token                 ? LabelKind::token
                     : label == kIgnoredLabel ? LabelKind::ignored
                                              : LabelKind::eos);
  }
  ends_.push_back(ids_.size());
  continues_.push_back(begin > 0);
}

void SampleSet::append(const SampleSet& other) {
  AUTOGLM_CHECK(other.eos_id_ == eos_id_, "sample sets with end-of-sequence ids {} and {}", eos_id_,
                other.eos_id_);
  const std::uint64_t base = ids_.size();
  ids_.insert(ids_.end(), other.ids_.begin(), other.ids_.end());
  kinds_.insert(kinds_.end(), other.kinds_.begin(), other.kinds_.end());
  ends_.reserve(ends_.size() + other.ends_.size());
  for (const std::uint64_t end : other.ends_) ends_.push_back(base + end);
  continues_.insert(continues_.end(), other.continues_.begin(), other.continues_.end());
}

std::size_t SampleSet::num_whole(std::size_t count) const {
  const auto end = continues_.begin() + static_cast<std::ptrdiff_t>(count);
  return static_cast<std::size_t>(std::count(continues_.begin(), end, false));
}

std::span<const std::int32_t> SampleSet::ids(std::size_t index) const {
  return {ids_.data() + begin_of(index), length(index)};
}

std::int32_t SampleSet::label(std::size_t index, std::size_t place) const {
  const std::uint64_t at = begin_of(index) + place;
  switch (kinds_[at]) {
    case LabelKind::token:
      return ids_[at];
    case LabelKind::eos:
      return eos_id_;
    case LabelKind::ignored:
      break;
  }
  return kIgnoredLabel;
}

std::vector<std::int32_t> SampleSet::labels(std::size_t index) const {
  std::vector<std::int32_t> labels(length(index));
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = label(index, i);
  return labels;
}

std::size_t SampleSet::supervised(std::size_t index) const {
  const auto begin = kinds_.begin() + static_cast<std::ptrdiff_t>(begin_of(index));
  const auto end = kinds_.begin() + static_cast<std::ptrdiff_t>(ends_[index]);
  if (begin == end) return 0;
  return static_cast<std::size_t>(end - begin - 1 - std::count(begin + 1, end, LabelKind::ignored));
}

void SampleSet::to_bytes(std::vector<std::byte>& bytes) const {
  write_array(std::vector<std::int32_t>{eos_id_}, bytes);
  write_array(ids_, bytes);
  write_array(kinds_, bytes);
  write_array(ends_, bytes);
  write_array(std::vector<std::uint8_t>(continues_.begin(), continues_.end()), bytes);
}

SampleSet SampleSet::from_bytes(std::span<const std::byte>& bytes) {
  SampleSet set;
  const std::vector<std::int32_t> eos = read_array<std::int32_t>(bytes);
  set.ids_ = read_array<std::int32_t>(bytes);
  set.kinds_ = read_array<LabelKind>(bytes);
  set.ends_ = read_array<std::uint64_t>(bytes);
  const std::vector<std::uint8_t> continues = read_array<std::uint8_t>(bytes);
  set.continues_.assign(continues.begin(), continues.end());
  AUTOGLM_CHECK(eos.size() == 1 && set.kinds_.size() == set.ids_.size() &&
                set.continues_.size() == set.ends_.size() &&
                (set.ends_.empty() ? 0 : set.ends_.back()) == set.ids_.size());
  set.eos_id_ = eos.front();
  return set;
}

}  // namespace autoglm
