// Text to token ids and back, exactly as the `tokenizers` package does it for a model's tokenizer.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

struct Encoding {
  std::vector<std::int32_t> ids;
  // Byte offset in the input text at which each token begins (of the first byte of the text that the token
  // came from; non-decreasing). Same length as ids.
  std::vector<std::uint32_t> begins;
};

// Immutable after load; all const functions are thread-safe.
class Tokenizer {
 public:
  // Reads DIR/tokenizer.json, and the special tokens that tokenizer_config.json and special_tokens_map.json name
  // besides. Throws Error(missing_input) when it is absent or unreadable, Error(bad_data)
  // naming the field when the file is broken or uses a feature that is not supported.
  static Tokenizer load(const std::filesystem::path& model_directory);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Ids of `text`. Added tokens (such as <|user|>) inside the text are recognized. Nothing is prepended or
  // appended: like encode(text, add_special_tokens=False). `text` must be valid UTF-8 (Error(bad_data)).
  std::vector<std::int32_t> encode(std::string_view text) const;

  // The same ids with their places in the text.
  Encoding encode_with_offsets(std::string_view text) const;

  // With the post-processor's tokens: like encode(text, add_special_tokens=True).
  std::vector<std::int32_t> encode_with_special_tokens(std::string_view text) const;

  // Text of `ids`, like decode(ids, skip_special_tokens). Bytes that form no valid UTF-8 become U+FFFD;
  // unknown ids are left out.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const;

  // Id of a token by its content, added tokens included.
  std::optional<std::int32_t> token_to_id(std::string_view token) const;

  // One above the largest id.
  std::int32_t vocabulary_size() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace autoglm
