// Which static buffer a block uses while it runs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/states/block_state.h"

namespace autoglm {

struct SlotPlan {
  std::vector<std::size_t> slot_of;    // by block
  std::vector<std::int64_t> elements;  // by slot
};

// Where the head goes when the slot that it would share with the embedding holds the table that it reads.
enum class TiedHeadSlot { own, of_layers };

// Two slots in which decoder layers take turns, so that one is moved while the other is used, and one for
// the embedding or the head. `elements` is what each of the blocks, from embedding to head, needs.
SlotPlan share_slots(std::span<const BlockState> states, std::span<const std::int64_t> elements,
                     TiedHeadSlot tied_head);

// One slot for every block.
SlotPlan own_slots(std::span<const std::int64_t> elements);

}  // namespace autoglm
