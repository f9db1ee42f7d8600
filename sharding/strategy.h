// Where bytes live and what is computed twice: everything that may change memory and speed, and, but for
// five opt-ins, nothing that changes numbers.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

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

// In which order devices add gradients: that of the ranks, or what NCCL finds best on the machines.
enum class ReduceScatter { ordered, nccl };

// How the CPU multiplies matrices; each way has bits of its own. Ordered: who can take one can take those before it.
enum class Products {
  mkl,      // LibTorch's BLAS in fp32; bf16 operands are widened for it
  widened,  // oneDNN in fp32; bf16 operands are widened for it
  onednn,   // oneDNN in the operands' own type
};

// A value as options and plans spell it.
template <typename T>
struct Word {
  std::string_view text;
  T value;
};

inline constexpr Word<int> kStages[] = {{"ddp", 0}, {"zero1", 1}, {"zero2", 2}, {"zero3", 3}};
inline constexpr Word<Recompute> kRecomputes[] = {
    {"none", Recompute::none}, {"cheap", Recompute::cheap}, {"full", Recompute::full}};
inline constexpr Word<WeightSourceKind> kWeightSources[] = {{"resident", WeightSourceKind::resident},
                                                            {"peers", WeightSourceKind::peers},
                                                            {"host", WeightSourceKind::host}};
inline constexpr Word<MasterLayout> kMasterLayouts[] = {{"split", MasterLayout::split},
                                                        {"plain", MasterLayout::plain}};
inline constexpr Word<ReduceMode> kReduceModes[] = {{"micro-batch", ReduceMode::micro_batch},
                                                    {"step", ReduceMode::step}};
inline constexpr Word<ReduceScatter> kReduceScatters[] = {{"ordered", ReduceScatter::ordered},
                                                          {"nccl", ReduceScatter::nccl}};
inline constexpr Word<Products> kProducts[] = {
    {"mkl", Products::mkl}, {"onednn", Products::onednn}, {"widened", Products::widened}};
inline constexpr Word<bool> kWidths[] = {{"fp32", false}, {"bf16", true}};

// `value` is one of the words'.
template <typename T>
constexpr std::string_view word_of(std::type_identity_t<std::span<const Word<T>>> words, T value) {
  return std::ranges::find(words, value, &Word<T>::value)->text;
}
constexpr std::string_view stage_name(int stage) {
  return word_of(kStages, stage);
}
constexpr std::string_view recompute_name(Recompute level) {
  return word_of(kRecomputes, level);
}

// The head takes a micro-batch's tokens in so many pieces, unless a smaller memory asks for more.
inline constexpr std::int64_t kDefaultHeadChunks = 8;

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
  std::int64_t head_chunks = kDefaultHeadChunks;
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
  ReduceScatter reduce_scatter = ReduceScatter::ordered;
  bool bf16_reduce = false;  // each rank's gradients are rounded to bf16 before they are summed over ranks

  // By every part, so that what was rehearsed for one strategy is never taken for another's.
  auto operator<=>(const Strategy&) const = default;

  Recompute level_of(std::int64_t layer) const {
    return recompute_layers < 0 || layer < recompute_layers ? recompute : Recompute::none;
  }
  bool shards_optimizer() const { return stage >= 1; }
  bool shards_weights() const { return stage == 3; }
};

// The layout that holds fp32 weights in the fewest bytes.
constexpr MasterLayout leanest_master(Precision precision) {
  return precision == Precision::bf16 ? MasterLayout::split : MasterLayout::plain;
}

// Why parts of a strategy exclude each other, in one sentence that names the options; empty when they do not.
std::string strategy_conflict(const Strategy& strategy, Precision precision);

// "zero2, recompute full for the first 3 layers, split master, ...": what differs from plain training.
std::string describe_strategy(const Strategy& strategy);

}  // namespace autoglm
