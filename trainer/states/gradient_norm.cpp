#include "trainer/states/gradient_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <vector>

#include "base/math.h"
#include "trainer/ops/kernel_work.h"
#include "trainer/ops/target.h"
#include "trainer/optim/adamw.h"
#include "trainer/states/device_work.h"
#include "trainer/states/host_sums.h"

namespace autoglm {
namespace {

bool whole_in(const ElementRange& range, const GradientPart& part) {
  return part.range.begin <= range.begin && range.end <= part.range.end;
}

// Sums of the pieces that lie whole in `part`, which is on the host.
void sum_on_host(const ElementRange& shard, const GradientPart& part, std::span<double> sums) {
  at::parallel_for(0, static_cast<std::int64_t>(sums.size()), 8, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const ElementRange range = squares_piece(shard, i);
      if (!whole_in(range, part)) continue;
      const std::optional<double> kept = kept_squares(part, i);
      sums[static_cast<std::size_t>(i)] =
          kept ? *kept : piece_sum_of_squares(part.sum, range.begin - part.range.begin, range.size());
    }
  });
}

// The same on the device; returns how many pieces those are, which are the shard's first.
std::int64_t sum_on_device(const ElementRange& shard, const GradientPart& part, const at::Tensor& sums) {
  // What lies on the device begins where the shard does; its last piece may go on elsewhere.
  AUTOGLM_CHECK(part.range.begin == shard.begin, "{} is not {}", part.range.begin, shard.begin);
  const bool all = part.range.end == shard.end;
  const std::int64_t count = all ? part.range.size() : part.range.size() / kSquaresPiece * kSquaresPiece;
  if (count > 0) squares_on_device(part.sum, count, kSquaresPiece, sums);
  return divide_up(count, kSquaresPiece);
}

void count_norm(const GradientPart& part) {
  if (part.squared) return;
  const bool on_host = part.pool == MemoryPool::host;
  ops::count_kernel(on_host ? WorkKind::host_optimizer : WorkKind::optimizer, {part.sum}, {});
}

// Pieces of this rank's shard of the block.
std::int64_t num_pieces(const BlockState& state) {
  return state.gradients.empty() ? 0 : num_squares_pieces(state.shard());
}

}  // namespace

GradientNorm::GradientNorm(std::span<const BlockState> states, const StatePlacement& placement)
    : states_(states) {
  if (placement.strategy.offload_optimizer > 0) {
    piece_ =
        allocate_flat(kSquaresPiece, at::kFloat, placement.device, MemoryCategory::staging, MemoryPool::host);
  }
  if (ops::target_of(placement.device) == ops::Target::cuda) {
    std::int64_t pieces = 0;
    for (const BlockState& state : states) pieces += num_pieces(state);
    device_sums_ = allocate_flat(pieces, at::kDouble, placement.device, MemoryCategory::staging);
  }
}

double GradientNorm::sum_of_squares() const {
  if (!ops::computes(states_.front().trained.values())) {
    for (const BlockState& state : states_) {
      for (const GradientPart& part : state.gradients) count_norm(part);
    }
    return 0;
  }
  std::vector<double> sums;
  sum_whole_pieces(sums);
  double total = 0;
  auto sum = sums.begin();
  for (const BlockState& state : states_) {
    double of_block = 0;
    for (std::int64_t i = 0; i < num_pieces(state); ++i, ++sum) {
      const ElementRange range = squares_piece(state.shard(), i);
      const bool straddles = std::none_of(state.gradients.begin(), state.gradients.end(),
                                          [&](const GradientPart& part) { return whole_in(range, part); });
      of_block += straddles ? straddling_piece(state, range) : *sum;
    }
    total += of_block;
  }
  return total;
}

void GradientNorm::sum_whole_pieces(std::vector<double>& sums) const {
  struct OnDevice {
    std::int64_t begin, count;
  };
  std::vector<OnDevice> on_device;
  std::int64_t pieces = 0;
  for (const BlockState& state : states_) {
    for (const GradientPart& part : state.gradients) {
      if (!part.sum.is_cuda()) continue;
      const at::Tensor to = device_sums_.narrow(0, pieces, num_pieces(state));
      on_device.push_back({pieces, sum_on_device(state.shard(), part, to)});
    }
    pieces += num_pieces(state);
  }
  sums.resize(static_cast<std::size_t>(pieces));
  std::span<double> rest(sums);
  for (const BlockState& state : states_) {
    const std::span<double> mine = rest.first(static_cast<std::size_t>(num_pieces(state)));
    rest = rest.subspan(mine.size());
    for (const GradientPart& part : state.gradients) {
      if (!part.sum.is_cuda()) sum_on_host(state.shard(), part, mine);
    }
  }
  if (on_device.empty()) return;
  std::vector<double> copied(sums.size());
  at::from_blob(copied.data(), {pieces}, at::kDouble).copy_(device_sums_);
  for (const OnDevice& run : on_device)
    std::copy_n(copied.begin() + run.begin, run.count, sums.begin() + run.begin);
}

double GradientNorm::straddling_piece(const BlockState& state, const ElementRange& range) const {
  for (const GradientPart& part : state.gradients) {
    const ElementRange mine = range.within(part.range);
    if (mine.size() == 0) continue;
    piece_.narrow(0, mine.begin - range.begin, mine.size())
        .copy_(part.sum.narrow(0, mine.begin - part.range.begin, mine.size()));
  }
  return piece_sum_of_squares(piece_, 0, range.size());
}

}  // namespace autoglm
