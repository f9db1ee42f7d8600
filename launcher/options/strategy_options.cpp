#include "launcher/options/strategy_options.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace autoglm {
namespace {

// What contradicts itself whatever else is chosen.
std::string conflict_of(const StrategyPins& pins, Precision precision) {
  if (pins.recompute_layers && pins.recompute == Recompute::none) return "";
  return strategy_conflict(pinned_strategy(pins, precision), precision);
}

void settle_recompute(const OptionTable& table, StrategyPins& pins) {
  if (!pins.recompute_layers || pins.recompute != Recompute::none) return;
  if (!table.outranks("recompute", "recompute-layers"))
    fail(ExitCode::usage, "{} {} needs --recompute cheap or full; recompute is none",
         table.spelled("recompute-layers"), *pins.recompute_layers);
  pins.recompute_layers.reset();
}

// What the file says of parts gives way to a stage on the command line that excludes it.
void yield_to_command_line(const OptionTable& table, StrategyPins& pins, Precision precision) {
  const auto excluded = [&] { return !conflict_of(pins, precision).empty(); };
  if (excluded() && table.outranks("strategy", "weights")) pins.weights.reset();
  if (excluded() && table.outranks("precision", "master")) pins.master.reset();
  if (excluded() && table.outranks("strategy", "reduce")) pins.reduce = ReduceMode::micro_batch;
  if (excluded() && table.outranks("recompute", "offload-activations")) pins.offload_activations.reset();
}

// One of the words; of a pin that may be unset, "auto" too.
template <typename Pin, typename T, std::size_t N>
void add_pin(OptionTable& table, std::string name, Pin& pin, const Word<T> (&words)[N], std::string help) {
  std::vector<std::pair<std::string, Pin>> choices;
  if constexpr (!std::is_same_v<Pin, T>) choices.emplace_back("auto", std::nullopt);
  for (const Word<T>& word : words) choices.emplace_back(word.text, word.value);
  table.add_choice(std::move(name), pin, std::move(choices), std::move(help));
}

// Unset, or a fraction.
Option fraction_option(std::string name, std::optional<double>& target, std::string help) {
  Option option{name, "FRACTION", std::move(help), "auto"};
  option.assign = [&target](std::string_view text, std::string_view spelled) {
    if (text == "auto") {
      target.reset();
    } else {
      target = parse_real(text, {0, 1}, spelled);
    }
  };
  option.store = [&target, name](nlohmann::ordered_json& object) {
    object[name] = target ? nlohmann::ordered_json(*target) : nlohmann::ordered_json(nullptr);
  };
  return option;
}

}  // namespace

void bind_strategy_options(OptionTable& table, StrategyOptions& strategy) {
  table.begin_group("Strategy");
  table.add_choice<DeviceRequest>(
      "device", strategy.device,
      {{"auto", DeviceRequest::automatic}, {"cuda", DeviceRequest::cuda}, {"cpu", DeviceRequest::cpu}},
      "where to train; auto: on GPUs where there are any");
  bind_strategy_pins(table, strategy.pins);
  table.add_bytes("memory-limit", strategy.memory_limit, "most bytes of the device that a rank may use",
                  "no limit");
  table.add_choice<OnOutOfMemory>("on-oom", strategy.on_oom,
                                  {{"shrink", OnOutOfMemory::shrink}, {"stop", OnOutOfMemory::stop}},
                                  "out of memory: plan again and go on, or stop");
  bind_inexact_pins(table, strategy.pins);
  add_pin(table, "products", strategy.products, kProducts, "matrix products on the CPU; auto: the fastest");
}

void bind_strategy_pins(OptionTable& table, StrategyPins& pins) {
  add_pin(table, "strategy", pins.stage, kStages, "what ranks share; auto: the fastest that fits");
  table.add_integer("micro-batch", pins.micro_batch, {1, kMostRows}, "rows that a rank computes at a time",
                    "auto");
  add_pin(table, "recompute", pins.recompute, kRecomputes, "activations computed again in the backward pass");
  table.add_integer("recompute-layers", pins.recompute_layers, {1, 100'000},
                    "recompute in the first N layers only", "auto");
  table.add(fraction_option("offload-optimizer", pins.offload_optimizer,
                            "share of the optimizer's state in host memory"));
  table.add(fraction_option("offload-activations", pins.offload_activations,
                            "share of recomputed layers' inputs in host memory"));
  add_pin(table, "weights", pins.weights, kWeightSources, "where weights are fetched from");
  add_pin(table, "master", pins.master, kMasterLayouts, "fp32 weights, or the 16 bits that bf16 lacks");
  table.add_integer("head-chunks", pins.head_chunks, {1, kMostRows},
                    "pieces in which logits and loss are computed", "auto");
}

void bind_inexact_pins(OptionTable& table, StrategyPins& pins) {
  table.begin_group("Strategy that changes last bits");
  add_pin(table, "gradient-dtype", pins.bf16_gradients, kWidths,
          "in which gradients are summed over micro-batches");
  add_pin(table, "moment-dtype", pins.bf16_moments, kWidths, "of AdamW; bf16 is rounded stochastically");
  add_pin(table, "reduce", pins.reduce, kReduceModes, "when gradients are summed over ranks");
  add_pin(table, "reduce-scatter", pins.reduce_scatter, kReduceScatters,
          "order of sums between GPUs: the ranks' or NCCL's");
  add_pin(table, "reduce-dtype", pins.bf16_reduce, kWidths,
          "of what each rank adds; GPUs of a host send it so");
}

void settle_pins(const OptionTable& table, StrategyPins& pins, Precision precision) {
  settle_recompute(table, pins);
  yield_to_command_line(table, pins, precision);
  const std::string conflict = conflict_of(pins, precision);
  if (!conflict.empty()) fail(ExitCode::usage, "{}", conflict);
}

void check_micro_batch(const OptionTable& table, const StrategyPins& pins, std::int64_t global_batch) {
  if (pins.micro_batch.value_or(1) > global_batch)
    fail(ExitCode::usage, "{} {} is larger than --global-batch {}, so every pass would compute empty rows",
         table.spelled("micro-batch"), *pins.micro_batch, global_batch);
}

void check_recompute_layers(const StrategyPins& pins, std::int64_t num_layers) {
  if (pins.recompute_layers.value_or(0) > num_layers)
    fail(ExitCode::usage, "--recompute-layers {} is more than the {} layers of the model",
         *pins.recompute_layers, num_layers);
}

}  // namespace autoglm
