#include "sharding/strategy_pins.h"

namespace autoglm {

bool StrategyPins::complete() const {
  StrategyPins pins = *this;
  // Without a number of layers, recompute is for all of them.
  if (!pins.recompute_layers) pins.recompute_layers = Strategy().recompute_layers;
  bool complete = true;
  each_field([&](auto field) {
    if constexpr (field.is_chosen) complete &= (pins.*field.pin).has_value();
  });
  return complete;
}

Strategy pinned_strategy(const StrategyPins& pins, Precision precision) {
  Strategy strategy;
  // What pins ask for beside themselves, unless other pins say otherwise.
  strategy.master = leanest_master(precision);
  if (pins.weights == WeightSourceKind::peers) strategy.stage = 3;
  if (pins.stage.value_or(strategy.stage) == 3) strategy.weights = WeightSourceKind::peers;
  if (pins.recompute_layers || pins.offload_activations.value_or(0) > 0) strategy.recompute = Recompute::full;
  each_field([&](auto field) {
    if constexpr (field.is_chosen) {
      strategy.*field.value = (pins.*field.pin).value_or(strategy.*field.value);
    } else {
      strategy.*field.value = pins.*field.pin;
    }
  });
  return strategy;
}

StrategyPins without_choices(StrategyPins pins) {
  each_field([&](auto field) {
    if constexpr (field.is_chosen) (pins.*field.pin).reset();
  });
  return pins;
}

}  // namespace autoglm
