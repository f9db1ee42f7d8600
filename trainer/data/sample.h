// Tokenized conversations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "trainer/data/chat_template.h"
#include "trainer/data/conversation.h"
#include "trainer/data/tokenizer/tokenizer.h"

namespace autoglm {

// The label of a token that is not trained, as in torch and transformers.
inline constexpr std::int32_t kIgnoredLabel = -100;

// One conversation as ids and labels of the same length. labels[i] is what the model should say at the place
// of ids[i], so it is NOT shifted: it equals ids[i], or the end-of-sequence id under --eot eos, or
// kIgnoredLabel.
struct Sample {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;
  // As of RenderedChat.
  bool opens_otherwise = false;
  bool changes_answer = false;
};

// Labels that bring a loss: the trained ones behind the first token (nothing precedes the first to predict it
// from).
std::size_t count_supervised(std::span<const std::int32_t> labels);

// Turns conversations into samples. Immutable, thread-safe; keeps references to its arguments.
class SampleTokenizer {
 public:
  SampleTokenizer(const Tokenizer& tokenizer, const ChatTemplate& chat_template, LossOn loss_on);

  // The whole rendered text is encoded in one go, as apply_chat_template(tokenize=True) does; a token is
  // trained when it begins inside a loss span. Running text gets the tokenizer's own leading special tokens
  // (bos) unless it begins with them, and eos at its end where the tokenizer names one. Throws as
  // ChatTemplate::render, and SampleError for a text that spells a special token which the tokenizer lacks.
  Sample tokenize(const Conversation& conversation) const;

 private:
  // The leading ids that a text does not begin with itself.
  std::span<const std::int32_t> missing_in_front(std::span<const std::int32_t> ids) const;
  void check_ending(std::string_view text, std::span<const std::int32_t> ids) const;
  void check_spelled_tokens(const std::string& text) const;

  const Tokenizer& tokenizer_;
  const ChatTemplate& template_;
  LossOn loss_on_;
  std::vector<std::int32_t> leading_ids_;
  std::optional<std::int32_t> eos_id_;
};

// Many samples in few arrays: 5 bytes per token. One that was cut into pieces stands there as its pieces, one after
// another; whoever packs and trains takes each for a sample.
class SampleSet {
 public:
  // `eos_id` is the one label that may differ from its token.
  explicit SampleSet(std::optional<std::int32_t> eos_id = std::nullopt)
      : eos_id_(eos_id.value_or(kIgnoredLabel)) {}

  // Adds `length` tokens of a sample, from `begin` on: above 0, a further piece of the sample added before.
  void append(const Sample& sample, std::size_t length, std::size_t begin = 0);
  // Adds all samples of another set with the same eos id.
  void append(const SampleSet& other);

  std::size_t size() const { return ends_.size(); }
  std::uint64_t num_tokens() const { return ids_.size(); }
  std::size_t length(std::size_t index) const {
    return static_cast<std::size_t>(ends_[index] - begin_of(index));
  }
  // Whether it is a further piece of the one before it.
  bool continues(std::size_t index) const { return continues_[index]; }
  // How many of the first `count` begin a sample.
  std::size_t num_whole(std::size_t count) const;
  std::span<const std::int32_t> ids(std::size_t index) const;
  // Label of the token at `place` of a sample.
  std::int32_t label(std::size_t index, std::size_t place) const;
  std::vector<std::int32_t> labels(std::size_t index) const;
  // count_supervised() of the sample.
  std::size_t supervised(std::size_t index) const;

  // As bytes for another rank, and back. from_bytes() consumes what it reads from the front of `bytes`.
  void to_bytes(std::vector<std::byte>& bytes) const;
  static SampleSet from_bytes(std::span<const std::byte>& bytes);

 private:
  enum class LabelKind : std::uint8_t { ignored, token, eos };

  std::uint64_t begin_of(std::size_t index) const { return index == 0 ? 0 : ends_[index - 1]; }

  std::int32_t eos_id_;
  std::vector<std::int32_t> ids_;
  std::vector<LabelKind> kinds_;     // per token
  std::vector<std::uint64_t> ends_;  // per sample, into ids_
  std::vector<bool> continues_;      // per sample
};

}  // namespace autoglm
