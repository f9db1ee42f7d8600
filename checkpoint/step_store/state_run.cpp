#include "checkpoint/step_store/state_run.h"

#include <fmt/core.h>

#include <charconv>
#include <string>

namespace autoglm {

std::uint64_t StateRun::bytes() const {
  return static_cast<std::uint64_t>(count) * dtype_size(dtype);
}

std::string run_name(const StateRun& run) {
  return fmt::format("{}/{}/{}", run.kind, run.parameter, run.offset);
}

std::optional<RunName> parse_run_name(std::string_view name) {
  const std::size_t first = name.find('/'), last = name.rfind('/');
  if (first == std::string_view::npos || first == last) return std::nullopt;
  RunName parts{name.substr(0, first), name.substr(first + 1, last - first - 1)};
  const std::string_view digits = name.substr(last + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), parts.offset);
  const bool whole = error == std::errc() && end == digits.data() + digits.size();
  if (!whole || parts.offset < 0 || parts.kind.empty() || parts.parameter.empty()) return std::nullopt;
  if (digits != std::to_string(parts.offset)) return std::nullopt;
  return parts;
}

}  // namespace autoglm
