// A manifest's own checksum, without which nothing else of it is looked at.
#pragma once

#include <string>

#include "checkpoint/file.h"
#include "checkpoint/step_store/checksum.h"

namespace autoglm::fuzz {

// The text with the checksum that belongs to it, where it has one.
inline std::string with_checksum(std::string text) {
  constexpr std::size_t kAfter = 4, kDigits = 8;
  if (text.size() < kAfter + kDigits || !text.ends_with("\"\n}\n")) return text;
  const std::size_t at = text.size() - kAfter - kDigits;
  text.replace(at, kDigits, "00000000");
  return text.replace(at, kDigits, fmt::format("{:08x}", crc32c(as_bytes(text))));
}

}  // namespace autoglm::fuzz
