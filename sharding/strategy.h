// Where bytes live and what is computed twice: everything that may change memory and speed, and, but for
// three opt-ins, nothing that changes numbers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/dtype.h"

namespace autoglm {

enum class Recompute {
  none,   // every block keeps its graph
  cheap,  // the graph without the inputs of linear layers that can be rebuilt from a norm or SwiGLU
  full,   // only the input of a block is kept
};

// Where the working weights come from when a block needs them.
enum class WeightSourceKind {
  resident,  // always on the device, whole
  peers,     // a shard on the device, the rest gathered from the other ranks (stage 3)
  host,      // uploaded from host memory: whole in stages 0 to 2, a shard to be gathered in stage 3
};

enum class MasterLayout {
  plain,  // fp32 beside the working weight
  split,  // the bf16 working weight and the 16 bits that it lacks
};

// When gradients are summed over ranks: the same sums in another order.
enum class ReduceMode { micro_batch, step };

constexpr std::string_view recompute_name(Recompute level) {
  return level == Recompute::none ? "none" : level == Recompute::cheap ? "cheap" : "full";
}
constexpr std::string_view weights_name(WeightSourceKind kind) {
  return kind == WeightSourceKind::resident ? "resident" : kind == WeightSourceKind::peers ? "peers" : "host";
}
constexpr std::string_view master_name(MasterLayout layout) {
  return layout == MasterLayout::plain ? "plain" : "split";
}
// "ddp" or "zero1" to "zero3".
constexpr std::string_view stage_name(int stage) {
  constexpr std::string_view names[] = {"ddp", "zero1", "zero2", "zero3"};
  return names[stage];
}

struct Strategy {
  // ZeRO (Rajbhandari et al., 2020): 0 keeps everything whole on every rank; 1 and 2 shard master weights and
  // moments (reduced gradients are sharded in every stage); 3 shards the working weights too.
  int stage = 0;
  Recompute recompute = Recompute::none;
  // The first so many layers recompute at that level; -1: all.
  std::int64_t recompute_layers = -1;
  // Rows of one micro-batch on one rank.
  std::int64_t micro_batch = 1;
  // The head takes the tokens of a micro-batch in this many chunks.
  std::int64_t head_chunks = 8;
  WeightSourceKind weights = WeightSourceKind::resident;
  MasterLayout master = MasterLayout::plain;
  // Share of this rank's master weights and moments, with their gradients, that lies on the host.
  double offload_optimizer = 0;
  // Share of the fully recomputed layers, from the first on, whose saved inputs lie on the host.
  double offload_activations = 0;

  // These change last bits.
  bool bf16_gradients = false;  // accumulators in bf16
  bool bf16_moments = false;    // moments in bf16, rounded stochastically
  ReduceMode reduce = ReduceMode::micro_batch;

  Recompute level_of(std::int64_t layer) const {
    return recompute_layers < 0 || layer < recompute_layers ? recompute : Recompute::none;
  }
  bool shards_optimizer() const { return stage >= 1; }
  bool shards_weights() const { return stage == 3; }
};

// Why parts of a strategy exclude each other, in one sentence that names the options; empty when they do not.
std::string strategy_conflict(const Strategy& strategy, Precision precision);

// "zero2, recompute full for the first 3 layers, split master, ...": what differs from plain training.
std::string describe_strategy(const Strategy& strategy);

}  // namespace autoglm
