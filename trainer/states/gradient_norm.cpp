#include "trainer/states/gradient_norm.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "trainer/ops/kernel_work.h"
#include "trainer/ops/target.h"
#include "trainer/optim/adamw.h"
#include "trainer/states/device_work.h"

namespace autoglm {
namespace {

ElementRange piece_range(const ElementRange& shard, std::int64_t index) {
  const std::int64_t begin = shard.begin + index * kSquaresPiece;
  return {begin, std::min(begin + kSquaresPiece, shard.end)};
}

bool whole_in(const ElementRange& range, const GradientPart& part) {
  return part.range.begin <= range.begin && range.end <= part.range.end;
}

// Sums of the pieces that lie whole in `part`.
void sum_whole_pieces(const ElementRange& shard, const GradientPart& part, const at::Tensor& device_sums,
                      std::span<double> sums) {
  if (part.sum.is_cuda()) {
    // What lies on the device begins where the shard does; its last piece may go on elsewhere.
    AUTOGLM_CHECK(part.range.begin == shard.begin, "{} is not {}", part.range.begin, shard.begin);
    const bool all = part.range.end == shard.end;
    const std::int64_t count = all ? part.range.size() : part.range.size() / kSquaresPiece * kSquaresPiece;
    squares_on_device(part.sum, count, kSquaresPiece, device_sums, sums.data());
    return;
  }
  at::parallel_for(0, static_cast<std::int64_t>(sums.size()), 8, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const ElementRange range = piece_range(shard, i);
      if (!whole_in(range, part)) continue;
      sums[static_cast<std::size_t>(i)] =
          piece_sum_of_squares(part.sum, range.begin - part.range.begin, range.size());
    }
  });
}

void count_norm(const GradientPart& part) {
  const bool on_host = part.pool == MemoryPool::host;
  ops::count_kernel(on_host ? WorkKind::host_optimizer : WorkKind::optimizer, {part.sum}, {});
}

// Pieces of this rank's shard of the block.
std::int64_t num_pieces(const BlockState& state) {
  return (state.shard().size() + kSquaresPiece - 1) / kSquaresPiece;
}

}  // namespace

GradientNorm::GradientNorm(std::span<const BlockState> states, const StatePlacement& placement)
    : states_(states) {
  if (placement.strategy.offload_optimizer > 0) {
    piece_ =
        allocate_flat(kSquaresPiece, at::kFloat, placement.device, MemoryCategory::staging, MemoryPool::host);
  }
  if (ops::target_of(placement.device) == ops::Target::cuda) {
    std::int64_t most = 0;
    for (const BlockState& state : states) most = std::max(most, num_pieces(state));
    device_sums_ = allocate_flat(most, at::kDouble, placement.device, MemoryCategory::staging);
  }
}

double GradientNorm::sum_of_squares() const {
  double total = 0;
  for (const BlockState& state : states_) total += sum_of_squares(state);
  return total;
}

double GradientNorm::sum_of_squares(const BlockState& state) const {
  double total = 0;
  if (state.gradients.empty()) return total;
  if (!ops::computes(state.gradients.front().sum)) {
    for (const GradientPart& part : state.gradients) count_norm(part);
    return total;
  }
  const ElementRange shard = state.shard();
  std::vector<double> sums(static_cast<std::size_t>(num_pieces(state)));
  for (const GradientPart& part : state.gradients) sum_whole_pieces(shard, part, device_sums_, sums);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const ElementRange range = piece_range(shard, static_cast<std::int64_t>(i));
    const bool straddles = std::none_of(state.gradients.begin(), state.gradients.end(),
                                        [&](const GradientPart& part) { return whole_in(range, part); });
    if (straddles) {
      for (const GradientPart& part : state.gradients) {
        const ElementRange mine = range.within(part.range);
        if (mine.size() == 0) continue;
        piece_.narrow(0, mine.begin - range.begin, mine.size())
            .copy_(part.sum.narrow(0, mine.begin - part.range.begin, mine.size()));
      }
      sums[i] = piece_sum_of_squares(piece_, 0, range.size());
    }
    total += sums[i];
  }
  return total;
}

}  // namespace autoglm
