#include "launcher/strategy_options.h"

#include "sharding/base/error.h"

namespace autoglm {
namespace {

constexpr std::int64_t kDefaultHeadChunks = 8;

void settle_recompute(const OptionTable& table, StrategyOptions& strategy) {
  if (!strategy.recompute_layers || strategy.recompute != Recompute::none) return;
  if (!table.outranks("recompute", "recompute-layers"))
    fail(ExitCode::usage, "{} {} needs --recompute cheap or full; recompute is none",
         table.spelled("recompute-layers"), *strategy.recompute_layers);
  strategy.recompute_layers.reset();
}

// What the file says of parts gives way to a stage on the command line that excludes it.
void yield_to_command_line(const OptionTable& table, StrategyOptions& strategy, bool bf16) {
  const auto excluded = [&] { return !strategy_conflict(strategy_of(strategy, bf16), bf16).empty(); };
  if (excluded() && table.outranks("strategy", "weights")) strategy.weights.reset();
  if (excluded() && table.outranks("precision", "master")) strategy.master.reset();
  if (excluded() && table.outranks("strategy", "reduce")) strategy.reduce = ReduceMode::micro_batch;
  if (excluded() && table.outranks("recompute", "offload-activations")) strategy.offload_activations = 0;
}

}  // namespace

void bind_strategy_options(OptionTable& table, StrategyOptions& strategy) {
  table.begin_group("Strategy");
  table.add_choice<DeviceRequest>(
      "device", strategy.device,
      {{"auto", DeviceRequest::automatic}, {"cuda", DeviceRequest::cuda}, {"cpu", DeviceRequest::cpu}},
      "where to train; auto: on GPUs where there are any");
  table.add_choice<int>("strategy", strategy.stage, {{"ddp", 0}, {"zero1", 1}, {"zero2", 2}, {"zero3", 3}},
                        "what ranks share among each other");
  table.add_integer("micro-batch", strategy.micro_batch, {1, kMostRows},
                    "rows that a rank computes at a time");
  table.add_choice<Recompute>(
      "recompute", strategy.recompute,
      {{"none", Recompute::none}, {"cheap", Recompute::cheap}, {"full", Recompute::full}},
      "activations computed again in the backward pass");
  table.add_integer("recompute-layers", strategy.recompute_layers, {1, 100'000},
                    "recompute in the first N layers only", "all");
  table.add_real("offload-optimizer", "FRACTION", strategy.offload_optimizer, {0, 1},
                 "share of the optimizer's state in host memory");
  table.add_real("offload-activations", "FRACTION", strategy.offload_activations, {0, 1},
                 "share of recomputed layers' inputs in host memory");
  table.add_choice<std::optional<WeightSourceKind>>("weights", strategy.weights,
                                                    {{"auto", std::nullopt},
                                                     {"resident", WeightSourceKind::resident},
                                                     {"peers", WeightSourceKind::peers},
                                                     {"host", WeightSourceKind::host}},
                                                    "where weights come from; auto: peers with zero3");
  table.add_choice<std::optional<MasterLayout>>(
      "master", strategy.master,
      {{"auto", std::nullopt}, {"split", MasterLayout::split}, {"plain", MasterLayout::plain}},
      "fp32 weights, or the 16 bits that bf16 lacks");
  table.add_integer("head-chunks", strategy.head_chunks, {1, kMostRows},
                    "pieces in which logits and loss are computed", "auto");
  table.add_bytes("memory-limit", strategy.memory_limit, "most bytes of the device that a rank may use",
                  "no limit");
  table.begin_group("Strategy that changes last bits");
  table.add_choice<bool>("gradient-dtype", strategy.bf16_gradients, {{"fp32", false}, {"bf16", true}},
                         "in which gradients are summed over micro-batches");
  table.add_choice<bool>("moment-dtype", strategy.bf16_moments, {{"fp32", false}, {"bf16", true}},
                         "of AdamW; bf16 is rounded stochastically");
  table.add_choice<ReduceMode>("reduce", strategy.reduce,
                               {{"micro-batch", ReduceMode::micro_batch}, {"step", ReduceMode::step}},
                               "when gradients are summed over ranks");
}

Strategy strategy_of(const StrategyOptions& options, bool bf16) {
  Strategy strategy;
  strategy.stage = options.stage;
  strategy.recompute = options.recompute;
  strategy.recompute_layers = options.recompute_layers.value_or(-1);
  strategy.micro_batch = options.micro_batch;
  strategy.head_chunks = options.head_chunks.value_or(kDefaultHeadChunks);
  strategy.weights =
      options.weights.value_or(options.stage == 3 ? WeightSourceKind::peers : WeightSourceKind::resident);
  strategy.master = options.master.value_or(bf16 ? MasterLayout::split : MasterLayout::plain);
  strategy.offload_optimizer = options.offload_optimizer;
  strategy.offload_activations = options.offload_activations;
  strategy.bf16_gradients = options.bf16_gradients;
  strategy.bf16_moments = options.bf16_moments;
  strategy.reduce = options.reduce;
  return strategy;
}

void settle_strategy(const OptionTable& table, StrategyOptions& strategy, bool bf16) {
  settle_recompute(table, strategy);
  yield_to_command_line(table, strategy, bf16);
  const std::string conflict = strategy_conflict(strategy_of(strategy, bf16), bf16);
  if (!conflict.empty()) fail(ExitCode::usage, "{}", conflict);
}

}  // namespace autoglm
