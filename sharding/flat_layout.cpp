#include "sharding/flat_layout.h"

#include "base/math.h"

namespace autoglm {

FlatLayout::FlatLayout(std::span<const std::int64_t> parameter_elements, int num_shards, std::int64_t grain)
    : num_shards_(num_shards) {
  std::int64_t cursor = 0;
  for (const std::int64_t elements : parameter_elements) {
    offsets_.push_back(cursor);
    elements_.push_back(elements);
    cursor = round_up(cursor + elements, grain);
  }
  shard_elements_ = round_up(cursor, grain * num_shards) / num_shards;
}

}  // namespace autoglm
