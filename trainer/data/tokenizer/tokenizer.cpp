#include "trainer/data/tokenizer/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "trainer/data/tokenizer/added_tokens.h"
#include "trainer/data/tokenizer/bpe.h"
#include "trainer/data/tokenizer/decoder.h"
#include "trainer/data/tokenizer/named_tokens.h"
#include "trainer/data/tokenizer/normalizer.h"
#include "trainer/data/tokenizer/post_processor.h"
#include "trainer/data/tokenizer/pre_tokenizer.h"
#include "trainer/data/tokenizer/tokenizer_file.h"
#include "trainer/data/tokenizer/utf8.h"

namespace autoglm {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

// Refuses what is not for this reader at all, before its parts are looked at.
void check_kind(const Field& root) {
  // "truncation" and "padding" are settings of a call, and training has its own: passed over, as transformers
  // does.
  root.allow_only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                   "post_processor", "decoder", "model"});
  const Field version = root.at("version");
  if (version.as_string() != "1.0")
    version.refuse("is " + quote(version.as_string()) + "; only 1.0 is supported");
  const Field model = root.at("model");
  if (const auto type = model.find("type"); type && type->as_string() != "BPE")
    model.refuse_type(type->as_string(), "BPE");
}

}  // namespace

struct Tokenizer::Impl {
  Impl(TokenizerFile& file, const Field& root)
      : normalizer(root.find("normalizer")),
        pre_tokenizer(root.find("pre_tokenizer")),
        model(file, pre_tokenizer.alphabet()),
        added_tokens(root.find("added_tokens"), model, normalizer),
        decoder(root.find("decoder")),
        size(std::max(model.largest_id(), added_tokens.largest_id()) + 1),
        post_processor(read_post_processor(root.find("post_processor"), size)) {}

  void encode(std::string_view text, TokenSink& out) const;
  void encode_section(std::string_view section, std::uint32_t base, TokenSink& out) const;
  void encode_words(AlignedText& text, TokenSink& out) const;

  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  BpeModel model;
  AddedTokens added_tokens;
  Decoder decoder;
  std::int32_t size;
  PostProcessor post_processor;
};

void Tokenizer::Impl::encode(std::string_view text, TokenSink& out) const {
  if (text.size() > kMaxTextBytes)
    fail(ExitCode::bad_data, "a text has {} bytes, above the limit of {}; split it", text.size(),
         kMaxTextBytes);
  if (const auto place = utf8::find_invalid(text))
    fail(ExitCode::bad_data, "a text is not valid UTF-8 at byte {}; convert it to UTF-8", *place);
  std::vector<AddedTokens::Part> parts;
  added_tokens.split(text, false, parts);
  for (const AddedTokens::Part& part : parts) {
    const auto begin = static_cast<std::uint32_t>(part.begin);
    if (part.token)
      out.push(part.token->id, begin);
    else
      encode_section(text.substr(part.begin, part.end - part.begin), begin, out);
  }
}

// `section` of the text, from byte `base`, holds no added token that is matched before normalizing.
void Tokenizer::Impl::encode_section(std::string_view section, std::uint32_t base, TokenSink& out) const {
  const bool normalizes = normalizer.changes_text();
  const bool tracked = out.with_begins || pre_tokenizer.needs_tracking(normalizes);
  AlignedText text(section, base, tracked);
  normalizer.apply(text);
  if (!added_tokens.has_normalized()) return encode_words(text, out);
  std::vector<AddedTokens::Part> parts;
  added_tokens.split(text.view(), true, parts);
  for (const AddedTokens::Part& part : parts) {
    if (part.token) {
      out.push(part.token->id, text.begin_of(part.begin));
    } else {
      AlignedText words(text, {static_cast<std::uint32_t>(part.begin), static_cast<std::uint32_t>(part.end)});
      encode_words(words, out);
    }
  }
}

void Tokenizer::Impl::encode_words(AlignedText& text, TokenSink& out) const {
  if (text.view().empty()) return;
  std::vector<Span> words;
  pre_tokenizer.apply(text, words);
  const std::size_t first = out.begins.size();
  for (const Span word : words) model.encode(text.view().substr(word.begin, word.size()), word.begin, out);
  for (std::size_t i = first; i < out.begins.size(); ++i) out.begins[i] = text.begin_of(out.begins[i]);
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::filesystem::path& model_directory) {
  TokenizerFile file = read_tokenizer_file(model_directory / "tokenizer.json");
  const Field root(file.root, "", file.name);
  check_kind(root);
  add_named_tokens(model_directory, file);
  return Tokenizer(std::make_unique<Impl>(file, root));
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  TokenSink out;
  impl_->encode(text, out);
  return std::move(out.ids);
}

Encoding Tokenizer::encode_with_offsets(std::string_view text) const {
  TokenSink out;
  out.with_begins = true;
  impl_->encode(text, out);
  for (std::size_t i = 1; i < out.begins.size(); ++i)
    out.begins[i] = std::max(out.begins[i], out.begins[i - 1]);
  return {std::move(out.ids), std::move(out.begins)};
}

std::vector<std::int32_t> Tokenizer::encode_with_special_tokens(std::string_view text) const {
  TokenSink out;
  out.ids = impl_->post_processor.prefix;
  impl_->encode(text, out);
  out.ids.insert(out.ids.end(), impl_->post_processor.suffix.begin(), impl_->post_processor.suffix.end());
  return std::move(out.ids);
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  for (const std::int32_t id : ids) {
    const AddedToken* added = impl_->added_tokens.by_id(id);
    std::optional<std::string_view> token = impl_->model.id_to_token(id);
    if (added) token = added->pattern;
    if (!token || (skip_special_tokens && impl_->added_tokens.is_special(*token))) continue;
    tokens.emplace_back(*token);
  }
  return impl_->decoder.decode(std::move(tokens));
}

std::optional<std::int32_t> Tokenizer::token_to_id(std::string_view token) const {
  if (const AddedToken* added = impl_->added_tokens.by_content(token)) return added->id;
  const std::int32_t id = impl_->model.token_to_id(token);
  return id < 0 ? std::nullopt : std::optional<std::int32_t>(id);
}

std::int32_t Tokenizer::vocabulary_size() const {
  return impl_->size;
}

}  // namespace autoglm
