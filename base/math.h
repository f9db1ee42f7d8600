// Whole numbers in whole units.
#pragma once

#include <type_traits>

namespace autoglm {

// How many units hold `value`, neither of which is negative.
template <typename Value, typename Unit>
constexpr std::common_type_t<Value, Unit> divide_up(Value value, Unit unit) {
  return (value + unit - 1) / unit;
}

// The smallest multiple of `unit` that holds `value`.
template <typename Value, typename Unit>
constexpr std::common_type_t<Value, Unit> round_up(Value value, Unit unit) {
  return divide_up(value, unit) * unit;
}

}  // namespace autoglm
