#include "sharding/flat_layout.h"

namespace autoglm {

FlatLayout::FlatLayout(std::span<const std::int64_t> parameter_elements, int world_size)
    : world_size_(world_size) {
  const auto round_up = [](std::int64_t value, std::int64_t unit) {
    return (value + unit - 1) / unit * unit;
  };
  std::int64_t cursor = 0;
  for (const std::int64_t elements : parameter_elements) {
    offsets_.push_back(cursor);
    elements_.push_back(elements);
    cursor = round_up(cursor + elements, kAlignment);
  }
  shard_elements_ = round_up(cursor, kAlignment * world_size) / world_size;
}

}  // namespace autoglm
