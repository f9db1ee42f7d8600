#include "trainer/states/slot_plan.h"

#include <algorithm>
#include <numeric>

namespace autoglm {
namespace {

constexpr std::size_t kNumLayerSlots = 2;
constexpr std::size_t kOuterSlot = 2;
constexpr std::size_t kTiedHeadSlot = 3;

}  // namespace

SlotPlan share_slots(std::span<const BlockState> states, std::span<const std::int64_t> elements,
                     TiedHeadSlot tied_head) {
  SlotPlan plan;
  for (std::size_t i = 0; i < states.size(); ++i) {
    const Block& block = *states[i].block;
    const bool outer = block.role() != BlockRole::layer && !block.reads_table();
    const bool apart = block.reads_table() && tied_head == TiedHeadSlot::own;
    plan.slot_of.push_back(outer ? kOuterSlot : apart ? kTiedHeadSlot : i % kNumLayerSlots);
  }
  plan.elements.assign(std::max(kOuterSlot, *std::max_element(plan.slot_of.begin(), plan.slot_of.end())) + 1,
                       0);
  for (std::size_t i = 0; i < states.size(); ++i) {
    std::int64_t& slot = plan.elements[plan.slot_of[i]];
    slot = std::max(slot, elements[i]);
  }
  plan.elements[0] = plan.elements[1] = std::max(plan.elements[0], plan.elements[1]);
  return plan;
}

SlotPlan own_slots(std::span<const std::int64_t> elements) {
  SlotPlan plan;
  plan.elements.assign(elements.begin(), elements.end());
  plan.slot_of.resize(elements.size());
  std::iota(plan.slot_of.begin(), plan.slot_of.end(), std::size_t{0});
  return plan;
}

}  // namespace autoglm
