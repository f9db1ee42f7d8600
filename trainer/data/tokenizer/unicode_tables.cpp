#include "trainer/data/tokenizer/unicode_tables.h"

#include <algorithm>
#include <array>
#include <string>
#include <unordered_map>

#include "base/error.h"

namespace autoglm::unicode {
namespace {

constexpr std::array<std::string_view, kCategories> kCategoryNames = {
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
    "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn"};

// The White_Space property, which has not changed since Unicode 6.3.
constexpr Tables::Range kSpaces[] = {{0x9, 0xD},       {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                     {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                     {0x205F, 0x205F}, {0x3000, 0x3000}};

void mark(std::vector<std::uint8_t>& classes, Tables::Range range, std::uint8_t bits) {
  for (char32_t c = range.first; c <= range.last; ++c) classes[c] |= bits;
}

}  // namespace

std::uint32_t categories_of(std::string_view name) {
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < kCategoryNames.size(); ++i)
    if (name == kCategoryNames[i] || (name.size() == 1 && name[0] == kCategoryNames[i][0])) bits |= 1u << i;
  return bits;
}

const Tables& Tables::get() {
  static const Tables tables;
  return tables;
}

std::vector<Tables::Run> Tables::parse(const char* runs) {
  std::vector<Run> out;
  char32_t next = 0;
  while (*runs != 0) {
    const char letter = *runs++;
    const int value = letter >= 'a' ? letter - 'a' : letter - 'A' + 26;
    char32_t length = 0;
    while (*runs >= '0' && *runs <= '9') length = length * 10 + static_cast<char32_t>(*runs++ - '0');
    length = std::max<char32_t>(length, 1);
    out.push_back({{next, next + length - 1}, static_cast<std::uint8_t>(value)});
    next += length;
  }
  AUTOGLM_CHECK(next == kCodePoints, "a Unicode table covers {} code points",
                static_cast<std::uint32_t>(next));
  return out;
}

Tables::Tables() : categories_(parse(kCategoryRuns)) {
  std::vector<std::uint8_t> classes(kCodePoints, 0);
  const std::uint32_t letters = categories_of("L"), numbers = categories_of("N");
  for (const Run& run : categories_) {
    const std::uint32_t category = 1u << run.value;
    if (category & letters) mark(classes, run.range, kLetter);
    if (category & numbers) mark(classes, run.range, kNumber | kNumeric);
  }
  for (const Run& run : parse(kExtraNumericRuns))
    if (run.value) mark(classes, run.range, kNumeric);
  for (const Run& run : parse(kWordRuns))
    if (run.value) mark(classes, run.range, kWord);
  for (const Range& range : kSpaces) mark(classes, range, kSpace);
  classes['\r'] |= kNewline;
  classes['\n'] |= kNewline;

  std::unordered_map<std::string, std::uint16_t> seen;
  for (auto block = classes.begin(); block != classes.end(); block += 128) {
    const auto [found, is_new] =
        seen.try_emplace(std::string(block, block + 128), static_cast<std::uint16_t>(seen.size()));
    if (is_new) blocks_.insert(blocks_.end(), block, block + 128);
    block_of_.push_back(found->second);
  }
}

std::vector<Tables::Range> Tables::ranges_of(std::uint32_t categories) const {
  std::vector<Range> out;
  for (const Run& run : categories_) {
    if (!(categories >> run.value & 1)) continue;
    if (!out.empty() && out.back().last + 1 == run.range.first)
      out.back().last = run.range.last;
    else
      out.push_back(run.range);
  }
  return out;
}

}  // namespace autoglm::unicode
