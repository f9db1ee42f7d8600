#include "sharding/strategy.h"

#include <fmt/format.h>

namespace autoglm {

std::string strategy_conflict(const Strategy& strategy, Precision precision) {
  const std::string_view stage = stage_name(strategy.stage);
  if (strategy.stage == 3 && strategy.weights == WeightSourceKind::resident) {
    return "--strategy zero3 keeps a shard of the weights only, so --weights resident contradicts it; use "
           "peers or host";
  }
  if (strategy.stage < 3 && strategy.weights == WeightSourceKind::peers) {
    return fmt::format(
        "--weights peers gathers shards, but --strategy {} keeps whole weights; use --strategy zero3", stage);
  }
  if (precision == Precision::fp32 && strategy.master == MasterLayout::split) {
    return "--master split stores what bf16 weights lack, so it needs --precision bf16";
  }
  if (strategy.reduce == ReduceMode::step && strategy.stage > 1) {
    return fmt::format(
        "--reduce step keeps whole gradients, which --strategy {} does not have; use ddp or zero1", stage);
  }
  if (strategy.reduce == ReduceMode::step && strategy.bf16_gradients) {
    return "--reduce step sums gradients in fp32 where they are computed, so --gradient-dtype bf16 would "
           "save nothing";
  }
  if (strategy.bf16_reduce && strategy.reduce_scatter == ReduceScatter::nccl) {
    return "--reduce-scatter nccl has NCCL add gradients as it sends them, in fp32, so --reduce-dtype bf16 "
           "needs --reduce-scatter ordered";
  }
  if (strategy.offload_activations > 0 && strategy.recompute != Recompute::full) {
    return "--offload-activations moves the saved inputs of recomputed layers, so it needs --recompute full";
  }
  return "";
}

std::string describe_strategy(const Strategy& strategy) {
  std::string text(stage_name(strategy.stage));
  if (strategy.recompute != Recompute::none) {
    text += fmt::format(", recompute {}", recompute_name(strategy.recompute));
    if (strategy.recompute_layers >= 0)
      text += fmt::format(" in the first {} layers", strategy.recompute_layers);
  }
  if (strategy.weights == WeightSourceKind::host) text += ", weights on the host";
  if (strategy.master == MasterLayout::split) text += ", split master";
  if (strategy.offload_optimizer > 0) {
    text += fmt::format(", {:.4g} % of the optimizer on the host", 100 * strategy.offload_optimizer);
  }
  if (strategy.offload_activations > 0) {
    text += fmt::format(", {:.4g} % of the saved inputs on the host", 100 * strategy.offload_activations);
  }
  if (strategy.bf16_gradients) text += ", bf16 gradients";
  if (strategy.bf16_moments) text += ", bf16 moments";
  if (strategy.reduce == ReduceMode::step) text += ", reduced once a step";
  if (strategy.reduce_scatter == ReduceScatter::nccl) text += ", gradients added by NCCL";
  if (strategy.bf16_reduce) text += ", gradients rounded to bf16 for sums";
  return text;
}

}  // namespace autoglm
