#include "base/units.h"

#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"

namespace autoglm {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr std::array kByteUnits = {
    Unit{"", 1},
    Unit{"B", 1},
    Unit{"KB", 1e3},
    Unit{"MB", 1e6},
    Unit{"GB", 1e9},
    Unit{"TB", 1e12},
    Unit{"KiB", 1024.0},
    Unit{"MiB", 1048576.0},
    Unit{"GiB", 1073741824.0},
    Unit{"TiB", 1099511627776.0},
};
constexpr std::array kTimeUnits = {Unit{"s", 1}, Unit{"m", 60}, Unit{"h", 3600}, Unit{"d", 86400}};

template <std::size_t N>
double parse_with_unit(std::string_view text, const std::array<Unit, N>& units, double largest,
                       std::string_view option, std::string_view examples) {
  double value = 0;
  const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view suffix(rest, static_cast<std::size_t>(text.data() + text.size() - rest));
  if (!suffix.empty() && suffix.front() == ' ') suffix.remove_prefix(1);
  if (status == std::errc() && std::isfinite(value) && value >= 0) {
    for (const Unit& unit : units) {
      if (suffix == unit.name && value * unit.factor <= largest) return value * unit.factor;
    }
  }
  fail(ExitCode::usage, "{}: \"{}\" is not one of the accepted forms, for example {}", option, text,
       examples);
}

}  // namespace

std::int64_t parse_bytes(std::string_view text, std::string_view option) {
  return static_cast<std::int64_t>(
      std::llround(parse_with_unit(text, kByteUnits, 0x1p62, option, "40GB, 40GiB or a number of bytes")));
}

std::chrono::duration<double> parse_duration(std::string_view text, std::string_view option) {
  return std::chrono::duration<double>(parse_with_unit(text, kTimeUnits, 1e10, option, "90s, 10m or 2h"));
}

std::string format_bytes(std::int64_t bytes) {
  const double magnitude = std::abs(static_cast<double>(bytes));
  if (magnitude >= 0x1p40) return fmt::format("{:.2f} TiB", static_cast<double>(bytes) / 0x1p40);
  if (magnitude >= 0x1p30) return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / 0x1p30);
  if (magnitude >= 0x1p20) return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / 0x1p20);
  if (magnitude >= 0x1p10) return fmt::format("{:.1f} KiB", static_cast<double>(bytes) / 0x1p10);
  return fmt::format("{} B", bytes);
}

std::string format_count(double count) {
  const std::string digits = fmt::format("{:.0f}", count);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const bool begins_group = i > 0 && (digits.size() - i) % 3 == 0 && digits[i - 1] != '-';
    if (begins_group) text += ',';
    text += digits[i];
  }
  return text;
}

std::string format_duration(double seconds) {
  if (seconds < 10) return fmt::format("{:.1f}s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
}

}  // namespace autoglm
