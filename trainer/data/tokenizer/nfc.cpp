#include "trainer/data/tokenizer/nfc.h"

#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/uset.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "trainer/data/tokenizer/unicode_tables.h"
#include "trainer/data/tokenizer/utf8.h"

namespace autoglm::nfc {
namespace {

constexpr char32_t kFirstUnstable = 0x300;  // everything below is composed and no combining mark

// A character and how many of the source's it stands for: 1 for a further one of a decomposition, 0 for one
// that takes the place of one, -n for one that takes the place of 1 + n. (The package keeps its alignments
// so.)
struct Piece {
  char32_t character;
  int change;
  std::uint8_t combining_class;
};

class Data {
 public:
  static const Data& get() {
    static const Data data;
    return data;
  }

  // Not certain to be left alone: decomposes for good, may join the one before, or is a combining mark.
  bool is_unstable(char32_t c) const { return c >= kFirstUnstable && unstable_[c]; }

  std::uint8_t combining_class(char32_t c) const {
    return known_[c] ? u_getCombiningClass(static_cast<UChar32>(c)) : std::uint8_t{0};
  }

  // The full canonical decomposition of `c`, which may be `c` itself.
  void decompose(char32_t c, std::vector<Piece>& out) const {
    UChar buffer[32];
    UErrorCode status = U_ZERO_ERROR;
    const int32_t length =
        known_[c] ? unorm2_getDecomposition(nfc_, static_cast<UChar32>(c), buffer, 32, &status) : -1;
    AUTOGLM_CHECK(U_SUCCESS(status), "ICU's decomposition failed");
    if (length < 0) out.push_back({c, 0, combining_class(c)});
    for (int32_t i = 0; i < length;) {
      const bool first = i == 0;
      UChar32 part;
      U16_NEXT(buffer, i, length, part);
      const auto character = static_cast<char32_t>(part);
      out.push_back({character, first ? 0 : 1, combining_class(character)});
    }
  }

  // What `a` and `b` compose to, or 0.
  char32_t compose(char32_t a, char32_t b) const {
    const UChar32 c = unorm2_composePair(nfc_, static_cast<UChar32>(a), static_cast<UChar32>(b));
    return c >= 0 && known_[static_cast<char32_t>(c)] ? static_cast<char32_t>(c) : 0;
  }

 private:
  Data()
      : known_(members_of(u"[:age=9.0:]")),
        unstable_(members_of(u"[[:age=9.0:]&[[:^NFC_QC=Yes:][:^ccc=0:]]]")) {
    UErrorCode status = U_ZERO_ERROR;
    nfc_ = unorm2_getNFCInstance(&status);
    AUTOGLM_CHECK(U_SUCCESS(status), "ICU has no NFC data");
  }

  static std::vector<bool> members_of(const char16_t* pattern) {
    UErrorCode status = U_ZERO_ERROR;
    USet* set = uset_openPattern(pattern, -1, &status);
    AUTOGLM_CHECK(U_SUCCESS(status), "ICU refuses a set of characters");
    std::vector<bool> members(unicode::kCodePoints);
    const int32_t ranges = uset_getItemCount(set);
    for (int32_t i = 0; i < ranges; ++i) {
      UChar32 first, last;
      if (uset_getItem(set, i, &first, &last, nullptr, 0, &status) != 0) continue;  // a string, not a range
      std::fill(members.begin() + first, members.begin() + last + 1, true);
    }
    uset_close(set);
    return members;
  }

  const UNormalizer2* nfc_ = nullptr;
  std::vector<bool> known_, unstable_;
};

// Marks in the order of their combining classes, between characters of class 0 (UAX 15, D109).
void reorder(std::vector<Piece>& pieces) {
  for (auto begin = pieces.begin(); begin != pieces.end();) {
    const auto end =
        std::find_if(begin + 1, pieces.end(), [](const Piece& piece) { return piece.combining_class == 0; });
    std::stable_sort(begin, end,
                     [](const Piece& a, const Piece& b) { return a.combining_class < b.combining_class; });
    begin = end;
  }
}

// Joins each character with the last starter before it where nothing stands between that blocks it (D115,
// D117).
std::vector<Piece> recompose(const std::vector<Piece>& pieces) {
  constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::vector<Piece> out;
  std::size_t starter = kNone;
  for (const Piece& piece : pieces) {
    if (starter != kNone) {
      const bool adjacent = out.size() == starter + 1;
      if (adjacent || out.back().combining_class < piece.combining_class) {
        if (const char32_t joined = Data::get().compose(out[starter].character, piece.character)) {
          out[starter].character = joined;
          out[starter].change += piece.change - 1;
          continue;
        }
      }
    }
    if (piece.combining_class == 0) starter = out.size();
    out.push_back(piece);
  }
  return out;
}

// A stable character with the unstable ones behind it (or unstable ones at the beginning of the text).
struct Cluster {
  std::vector<Piece> pieces;
  std::vector<std::uint32_t> begins;  // of each source character
};

void append(const Cluster& cluster, AlignedText::Builder& builder) {
  std::vector<Piece> pieces = cluster.pieces;
  reorder(pieces);
  std::size_t consumed = 0;
  std::string bytes;
  for (const Piece& piece : recompose(pieces)) {
    const bool further = piece.change > 0;
    const std::size_t from = further && consumed > 0 ? consumed - 1 : consumed;
    bytes.clear();
    utf8::append(bytes, piece.character);
    builder.insert(bytes, cluster.begins[std::min(from, cluster.begins.size() - 1)]);
    if (!further) consumed += 1 + static_cast<std::size_t>(-piece.change);
  }
}

// Beginning of the first cluster at or after `from` that must be looked at, or the size of the text.
std::uint32_t find_cluster(std::string_view text, std::uint32_t from) {
  const Data& data = Data::get();
  std::uint32_t previous = from;
  for (std::uint32_t at = from; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0xCC) {  // below kFirstUnstable
      previous = at;
      at += static_cast<unsigned char>(text[at]) < 0x80 ? 1 : 2;
      continue;
    }
    const utf8::Decoded next = utf8::decode(text, at);
    if (data.is_unstable(next.code_point)) return previous;
    previous = at;
    at += next.length;
  }
  return static_cast<std::uint32_t>(text.size());
}

}  // namespace

void apply(AlignedText& text) {
  const std::string_view view = text.view();
  std::uint32_t at = find_cluster(view, 0);
  if (at == view.size()) return;
  const Data& data = Data::get();
  AlignedText::Builder builder(text);
  builder.copy({0, at});
  while (at < view.size()) {
    Cluster cluster;
    do {
      const utf8::Decoded next = utf8::decode(view, at);
      cluster.begins.push_back(text.begin_of(at));
      data.decompose(next.code_point, cluster.pieces);
      at += next.length;
    } while (at < view.size() && data.is_unstable(utf8::decode(view, at).code_point));
    append(cluster, builder);
    const std::uint32_t next = find_cluster(view, at);
    builder.copy({at, next});
    at = next;
  }
  std::move(builder).apply(text);
}

}  // namespace autoglm::nfc
