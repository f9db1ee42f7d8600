#include "trainer/data/tokenizer/bpe.h"

#include <fmt/format.h>

#include <atomic>

#include "base/error.h"
#include "trainer/data/tokenizer/byte_level.h"
#include "trainer/data/tokenizer/json_field.h"
#include "trainer/data/tokenizer/utf8.h"
#include "trainer/data/tokenizer/word_cache.h"

namespace autoglm {
namespace {

constexpr TokenizerFile::Slice kHole{0, 0xFFFFFFFFu};
constexpr std::string_view kMetaspace = "\u2581";

std::uint32_t next_cache_owner() {
  static std::atomic<std::uint32_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

bool follows_metaspace(std::string_view text, std::size_t position) {
  return position >= kMetaspace.size() &&
         text.substr(position - kMetaspace.size(), kMetaspace.size()) == kMetaspace;
}

// Whether a metaspace stands in `token` behind another character.
bool has_inner_metaspace(std::string_view token) {
  for (std::size_t at = token.find(kMetaspace, 1); at != std::string_view::npos;
       at = token.find(kMetaspace, at + 1))
    if (!follows_metaspace(token, at)) return true;
  return false;
}

}  // namespace

BpeModel::BpeModel(TokenizerFile& file, Alphabet alphabet)
    : alphabet_(alphabet), cache_owner_(next_cache_owner()) {
  read_options(file);
  index_vocabulary(file);
  index_merges(file);
  prepare_seeds(file);
  prepare_words(file);
  pool_ = std::move(file.pool);
}

void BpeModel::read_options(const TokenizerFile& file) {
  const Field model = Field(file.root, "", file.name).at("model");
  model.allow_only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                    "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  for (const char* name : {"vocab", "merges"})
    if (model.find(name)) model.at(name).refuse("has the wrong form for a BPE model");
  if (!file.has_vocabulary) model.refuse("has no member 'vocab'");
  if (!file.has_merges) model.refuse("has no member 'merges'");
  if (const auto dropout = model.find("dropout"); dropout && !(dropout->json() == 0))
    dropout->refuse("is not supported: the same text must always give the same tokens");
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const auto affix = model.find(name); affix && !affix->as_string().empty())
      affix->refuse("is not supported unless empty");
  fuse_unknown_ = model.bool_or("fuse_unk", false);
  byte_fallback_ = model.bool_or("byte_fallback", false);
  ignore_merges_ = model.bool_or("ignore_merges", false);
  if (const auto token = model.find("unk_token")) unknown_token_ = token->as_string();
}

void BpeModel::index_vocabulary(const TokenizerFile& file) {
  ids_.reserve(file.vocabulary.size(), file.pool.size());
  for (const TokenizerFile::Token& token : file.vocabulary) {
    const std::string_view text = file.text(token.text);
    const auto refuse = [&](const std::string& problem) {
      Field(file.root, "model.vocab[" + quote(text) + "]", file.name).refuse(problem);
    };
    if (!ids_.insert(text, token.id)) refuse("is given twice");
    const auto index = static_cast<std::size_t>(token.id);
    if (index >= tokens_.size()) tokens_.resize(index + 1, kHole);
    if (tokens_[index].length != kHole.length)
      refuse(fmt::format("has id {}, which {} has already", token.id, quote(file.text(tokens_[index]))));
    tokens_[index] = token.text;
  }
}

void BpeModel::index_merges(const TokenizerFile& file) {
  merges_ = MergeTable(file.merges.size());
  splits_at_metaspace_ = alphabet_ == Alphabet::characters && ids_.find(kMetaspace) >= 0;
  std::string joined;
  for (std::size_t rank = 0; rank < file.merges.size(); ++rank) {
    const std::string_view left = file.text(file.merges[rank].left),
                           right = file.text(file.merges[rank].right);
    const auto require = [&](std::string_view token) {
      const std::int32_t id = ids_.find(token);
      if (id < 0)
        Field(file.root, fmt::format("model.merges[{}]", rank), file.name)
            .refuse(fmt::format("needs the token {}, which model.vocab lacks", quote(token)));
      return id;
    };
    joined.assign(left).append(right);
    const std::int32_t left_id = require(left), right_id = require(right);
    merges_.set(left_id, right_id, {static_cast<std::uint32_t>(rank), require(joined)});
    if (splits_at_metaspace_ && has_inner_metaspace(joined)) splits_at_metaspace_ = false;
  }
}

void BpeModel::prepare_seeds(const TokenizerFile& file) {
  bool all_fallbacks = byte_fallback_;
  for (int byte = 0; byte < 256; ++byte) {
    const std::int32_t id = ids_.find(fmt::format("<0x{:02X}>", byte));
    fallback_ids_[static_cast<std::size_t>(byte)] = id;
    all_fallbacks = all_fallbacks && id >= 0;
  }
  for (const TokenizerFile::Token& token : file.vocabulary) {
    const std::optional<char32_t> character = utf8::single_character(file.text(token.text));
    if (!character) continue;
    if (*character >= character_ids_.size()) character_ids_.resize(*character + 1, StringTable::kMissing);
    character_ids_[*character] = token.id;
  }
  bool all_bytes = true;
  for (int byte = 0; byte < 256; ++byte) {
    const Seed seed = seed_of_character(byte_level::character_of(static_cast<std::uint8_t>(byte)));
    byte_seeds_[static_cast<std::size_t>(byte)] = seed;
    all_bytes = all_bytes && seed.kind != Kind::unknown;
  }
  always_known_ = alphabet_ == Alphabet::bytes ? all_bytes : all_fallbacks;
  if (always_known_ || !unknown_token_) return;
  unknown_id_ = ids_.find(*unknown_token_);
  if (unknown_id_ < 0)
    Field(file.root, "model.unk_token", file.name)
        .refuse(fmt::format("is {}, which model.vocab lacks", quote(*unknown_token_)));
}

void BpeModel::prepare_words(const TokenizerFile& file) {
  splits_at_metaspace_ = splits_at_metaspace_ && always_known_;
  if (!ignore_merges_) return;
  whole_words_.reserve(file.vocabulary.size(), file.pool.size());
  for (const TokenizerFile::Token& token : file.vocabulary) {
    const std::string_view text = file.text(token.text);
    if (alphabet_ == Alphabet::characters)
      whole_words_.insert(text, token.id);
    else if (const std::optional<std::string> bytes = byte_level::bytes_of(text))
      whole_words_.insert(*bytes, token.id);
  }
}

std::optional<std::string_view> BpeModel::id_to_token(std::int32_t id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= tokens_.size()) return std::nullopt;
  const TokenizerFile::Slice slice = tokens_[static_cast<std::size_t>(id)];
  if (slice.length == kHole.length) return std::nullopt;
  return std::string_view(pool_).substr(slice.offset, slice.length);
}

BpeModel::Seed BpeModel::seed_of_character(char32_t character) const {
  Seed seed;
  if (character < character_ids_.size() && character_ids_[character] >= 0) {
    seed.kind = Kind::known;
    seed.ids[seed.count++] = character_ids_[character];
    return seed;
  }
  if (!byte_fallback_) return seed;
  std::string bytes;
  utf8::append(bytes, character);
  for (const char byte : bytes) {
    const std::int32_t id = fallback_ids_[static_cast<unsigned char>(byte)];
    if (id < 0) return {};
    seed.ids[seed.count++] = id;
  }
  seed.kind = Kind::fallback;
  return seed;
}

void BpeModel::seed(std::string_view word, std::vector<Symbol>& symbols) const {
  symbols.clear();
  // An unknown token waits for the next known one (fused with its neighbours or not): byte tokens overtake
  // it, as they do in the package.
  bool waits = false;
  std::uint32_t waits_at = 0;
  const auto flush = [&] {
    if (waits) symbols.push_back({unknown_id_, waits_at});
    waits = false;
  };
  for (std::uint32_t at = 0; at < word.size();) {
    std::uint32_t length = 1;
    Seed decoded;
    const Seed* seed = &byte_seeds_[static_cast<unsigned char>(word[at])];
    if (alphabet_ == Alphabet::characters) {
      const utf8::Decoded next = utf8::decode(word, at);
      length = next.length;
      decoded = seed_of_character(next.code_point);
      seed = &decoded;
    }
    if (seed->kind == Kind::known) {
      flush();
      symbols.push_back({seed->ids[0], at});
    } else if (seed->kind == Kind::fallback) {
      for (std::uint32_t i = 0; i < seed->count; ++i)
        symbols.push_back({seed->ids[i], alphabet_ == Alphabet::characters ? at + i : at});
    } else if (unknown_id_ >= 0) {
      if (!fuse_unknown_) flush();
      if (!waits) waits_at = at;
      waits = true;
    }
    at += length;
  }
  flush();
}

void BpeModel::encode_word(std::string_view word, std::uint32_t offset, TokenSink& out) const {
  WordCache& cache = WordCache::of_this_thread();
  const bool cached = word.size() <= WordCache::kMaxBytes;
  const std::uint64_t hash = cached ? hash_bytes(word) : 0;
  if (cached) {
    if (const WordCache::Entry* entry = cache.find(hash, cache_owner_, word)) {
      for (std::size_t i = 0; i < entry->count; ++i) out.push(entry->ids[i], offset + entry->starts[i]);
      return;
    }
  }
  thread_local std::vector<Symbol> symbols;
  seed(word, symbols);
  merge_symbols(merges_, symbols);
  if (cached) cache.insert(hash, cache_owner_, word, symbols);
  for (const Symbol& symbol : symbols) out.push(symbol.id, offset + symbol.start);
}

// Without a pre-tokenizer a word is a whole text. When no token holds a metaspace behind another character,
// no merge crosses such a place, so the parts between these places can be encoded one by one.
void BpeModel::encode_parts(std::string_view word, std::uint32_t offset, TokenSink& out) const {
  std::size_t begin = 0;
  for (std::size_t at = word.find(kMetaspace, 1); at != std::string_view::npos;
       at = word.find(kMetaspace, at + 1)) {
    if (follows_metaspace(word, at)) continue;
    encode_word(word.substr(begin, at - begin), offset + static_cast<std::uint32_t>(begin), out);
    begin = at;
  }
  encode_word(word.substr(begin), offset + static_cast<std::uint32_t>(begin), out);
}

void BpeModel::encode(std::string_view word, std::uint32_t offset, TokenSink& out) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    const std::int32_t id = whole_words_.find(word);
    if (id >= 0) return out.push(id, offset);
  }
  if (splits_at_metaspace_)
    encode_parts(word, offset, out);
  else
    encode_word(word, offset, out);
}

}  // namespace autoglm
