// How an engine is made, what it tells of its phases, and what a step's end tells all ranks.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/dtype.h"
#include "sharding/strategy.h"
#include "trainer/engine/step_votes.h"

namespace autoglm {

// Pieces of a step between which memory and time are looked at.
enum class EnginePhase { construction, forward, head, backward, optimizer, evaluation };

constexpr std::string_view phase_name(EnginePhase phase) {
  constexpr std::string_view names[] = {"construction", "forward",   "head",
                                        "backward",     "optimizer", "evaluation"};
  return names[static_cast<std::size_t>(phase)];
}

struct EngineOptions {
  at::Device device = at::kCPU;
  Precision precision = Precision::bf16;  // of working weights and activations
  Strategy strategy;
  std::int64_t row_length = 2048;
  // Longest document or answer; the rotary tables have this many positions (at least row_length).
  std::int64_t max_positions = 0;
  // Keys the rounding of bf16 moments.
  std::uint64_t seed = 42;
  // Whether states are saved while training goes on, for which memory is taken.
  bool saves_states = false;
  // Called on the calling thread when a phase has ended: for every block of a forward and backward pass, with
  // its index, and with index 0 otherwise. For the planner.
  std::function<void(EnginePhase phase, std::size_t block)> on_phase = {};
};

// What all ranks know at the end of a step.
struct StepSums {
  double loss_sum = 0;       // over the supervised tokens of the global batch
  double gradient_norm = 0;  // before clipping
  // How long this rank's compute has waited for communication and transfers since the last step's sums.
  double exposed_seconds = 0;
  StepVotes votes;
};

}  // namespace autoglm
