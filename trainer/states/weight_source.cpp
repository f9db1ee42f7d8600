#include "trainer/states/weight_source.h"

#include <algorithm>
#include <functional>

#include "trainer/states/slot_plan.h"

namespace autoglm {
namespace {

// Both groups of a block, each with the element of a slot at which it begins.
void each_group(const BlockState& state,
                const std::function<void(const FlatWeights& group, std::int64_t begin)>& visit) {
  visit(state.trained, 0);
  visit(state.frozen, state.trained.total_elements());
}

}  // namespace

WeightSource::WeightSource(std::span<BlockState> states, const StatePlacement& placement,
                           Communicator& communicator, EngineStreams& streams)
    : states_(states),
      placement_(placement),
      communicator_(communicator),
      streams_(streams),
      current_(states.size()) {
  if (placement.strategy.weights == WeightSourceKind::resident) return;
  std::vector<std::int64_t> elements;
  for (const BlockState& state : states) elements.push_back(state.whole_elements());
  SlotPlan plan = share_slots(states, elements, TiedHeadSlot::own);
  for (const std::int64_t size : plan.elements) {
    slots_.push_back(
        {allocate_flat(size, scalar_type(placement.precision), placement.device, MemoryCategory::slots),
         std::nullopt, Event(), Event()});
  }
  slot_of_ = std::move(plan.slot_of);
}

WeightSource::~WeightSource() {
  const auto all_ready = [&] {
    return std::all_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.filled.ready(); }) &&
           std::all_of(current_.begin(), current_.end(), [](const Event& event) { return event.ready(); });
  };
  if (std::uncaught_exceptions() > 0 && !all_ready()) communicator_.abandon();
  for (const Slot& slot : slots_) {
    wait_quietly(slot.filled);
    wait_quietly(slot.free);
  }
  for (const Event& event : current_) wait_quietly(event);
}

void WeightSource::prefetch(std::size_t index) {
  if (!in_slots()) return;
  Slot& slot = slots_[slot_of_[index]];
  if (slot.holds != index) fill(index, slot);
}

void WeightSource::acquire(std::size_t index) {
  BlockState& state = states_[index];
  if (!in_slots()) {
    streams_.wait_exposed(current_[index]);
    return;
  }
  Slot& slot = slots_[slot_of_[index]];
  if (slot.holds != index) fill(index, slot);
  streams_.wait_exposed(slot.filled);
  state.bind_weights(slot.buffer.narrow(0, 0, state.whole_elements()));
}

void WeightSource::release(std::size_t index) {
  if (!in_slots()) return;
  states_[index].unbind_weights();
  slots_[slot_of_[index]].free = streams_.compute().record();
}

void WeightSource::fill(std::size_t index, Slot& slot) {
  BlockState& state = states_[index];
  AUTOGLM_CHECK(!slot.holds || !states_[*slot.holds].block->parameters().front().bound(),
                "the slot of {} is still being read", state.block->name());
  slot.holds = index;
  if (state.working_pool == MemoryPool::device) {
    slot.filled = gather(state, slot.buffer, true, both(slot.free, current_[index]));
    return;
  }
  Stream& upload = streams_.upload();
  upload.wait(slot.free);
  upload.wait(current_[index]);
  // What is held here goes to its place in the slot; the other ranks' shards are gathered around it.
  each_group(state, [&](const FlatWeights& group, std::int64_t begin) {
    queue_copy(upload, slot.buffer, begin + group.held().begin, group.values(), 0, group.held().size());
  });
  slot.filled = upload.record();
  if (placement_.strategy.shards_weights()) slot.filled = gather(state, slot.buffer, false, slot.filled);
}

Event WeightSource::both(const Event& a, const Event& b) {
  if (a.ready()) return b;
  if (b.ready()) return a;
  streams_.upload().wait(a);
  streams_.upload().wait(b);
  return streams_.upload().record();
}

Event WeightSource::gather(const BlockState& state, const at::Tensor& whole, bool from_shards,
                           const Event& after) {
  const auto width = static_cast<std::int64_t>(whole.element_size());
  Event done = after;
  each_group(state, [&](const FlatWeights& group, std::int64_t begin) {
    if (group.total_elements() == 0) return;
    const void* mine = from_shards ? element_pointer(group.values(), 0)
                                   : element_pointer(whole, begin + group.shard().begin);
    done = communicator_.all_gather(mine, element_pointer(whole, begin), group.shard().size() * width, done);
  });
  return done;
}

void WeightSource::settle() const {
  for (const Event& event : current_) event.synchronize();
}

void WeightSource::refilled() {
  for (Slot& slot : slots_) slot.holds.reset();
}

void WeightSource::updated(std::size_t index, const Event& after) {
  BlockState& state = states_[index];
  current_[index] = after;
  if (in_slots() && slots_[slot_of_[index]].holds == index) slots_[slot_of_[index]].holds.reset();
  const Strategy& strategy = placement_.strategy;
  const at::Tensor& weights = state.trained.values();
  const ElementRange own = state.shard();
  // Nobody else's part is needed here, or it is gathered when the block is.
  if (own.size() == 0 || !strategy.shards_optimizer() || strategy.shards_weights() ||
      communicator_.size() == 1)
    return;
  const auto bytes = own.size() * static_cast<std::int64_t>(weights.element_size());
  if (state.working_pool == MemoryPool::device) {
    current_[index] = communicator_.all_gather(element_pointer(weights, own.begin),
                                               element_pointer(weights, 0), bytes, after);
    return;
  }
  // Weights on the host pass through the block's slot, where the device's communicator can gather them.
  Slot& slot = slots_[slot_of_[index]];
  slot.holds.reset();
  Stream &upload = streams_.upload(), &download = streams_.download();
  upload.wait(slot.free);
  upload.wait(after);
  queue_copy(upload, slot.buffer, own.begin, weights, own.begin, own.size());
  const Event gathered = communicator_.all_gather(element_pointer(slot.buffer, own.begin),
                                                  element_pointer(slot.buffer, 0), bytes, upload.record());
  download.wait(gathered);
  queue_copy(download, weights, 0, slot.buffer, 0, weights.numel());
  current_[index] = slot.free = slot.filled = download.record();
}

}  // namespace autoglm
