// How the parameters of one block lie in one flat buffer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace autoglm {

// Offsets and sizes count elements, so the same layout serves bf16 weights and fp32 gradients. Every
// parameter begins at a multiple of the grain, by default 64 elements (128 bytes in bf16), and the whole is
// padded so that it divides evenly into shards, each beginning at such a multiple too. Padding stays zero.
class FlatLayout {
 public:
  static constexpr std::int64_t kAlignment = 64;

  FlatLayout(std::span<const std::int64_t> parameter_elements, int num_shards,
             std::int64_t grain = kAlignment);

  std::int64_t offset(std::size_t parameter) const { return offsets_[parameter]; }
  std::int64_t elements(std::size_t parameter) const { return elements_[parameter]; }
  std::size_t num_parameters() const { return offsets_.size(); }

  // Elements of the whole buffer and of one shard; shard r begins at r * shard_elements().
  std::int64_t total_elements() const { return shard_elements_ * num_shards_; }
  std::int64_t shard_elements() const { return shard_elements_; }

 private:
  std::vector<std::int64_t> offsets_;
  std::vector<std::int64_t> elements_;
  std::int64_t shard_elements_ = 0;
  std::int64_t num_shards_ = 1;
};

}  // namespace autoglm
