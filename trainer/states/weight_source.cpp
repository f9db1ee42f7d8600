#include "trainer/states/weight_source.h"

#include <algorithm>

#include "trainer/states/slot_plan.h"

namespace autoglm {
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
  states_[index].bind_weights({});
  slots_[slot_of_[index]].free = streams_.compute().record();
}

void WeightSource::fill(std::size_t index, Slot& slot) {
  BlockState& state = states_[index];
  AUTOGLM_CHECK(!slot.holds || !states_[*slot.holds].block->parameters().front().bound(),
                "the slot of {} is still being read", state.block->name());
  slot.holds = index;
  Stream& upload = streams_.upload();
  const bool on_host = state.working_pool == MemoryPool::host;
  if (!on_host) {
    slot.filled = gather(state, slot.buffer, state.working, both(slot.free, current_[index]));
    return;
  }
  upload.wait(slot.free);
  upload.wait(current_[index]);
  if (!placement_.strategy.shards_weights()) {
    queue_copy(upload, slot.buffer, 0, state.working, 0, state.whole_elements());
    slot.filled = upload.record();
    return;
  }
  // Each group's shard goes to its place in the slot and is gathered around it.
  const std::int64_t trainable = state.layout.shard_elements(), frozen = state.frozen.shard_elements();
  const int rank = communicator_.rank();
  queue_copy(upload, slot.buffer, rank * trainable, state.working, 0, trainable);
  queue_copy(upload, slot.buffer, state.layout.total_elements() + rank * frozen, state.working, trainable,
             frozen);
  slot.filled = gather(state, slot.buffer, {}, upload.record());
}

Event WeightSource::both(const Event& a, const Event& b) {
  if (a.ready()) return b;
  if (b.ready()) return a;
  streams_.upload().wait(a);
  streams_.upload().wait(b);
  return streams_.upload().record();
}

Event WeightSource::gather(const BlockState& state, const at::Tensor& whole, const at::Tensor& shards,
                           const Event& after) {
  const std::int64_t trainable = state.layout.shard_elements(), frozen = state.frozen.shard_elements();
  const int rank = communicator_.rank();
  const auto width = static_cast<std::int64_t>(whole.element_size());
  Event done = after;
  const auto gather_group = [&](std::int64_t begin, std::int64_t count, std::int64_t place_in_shards) {
    if (count == 0) return;
    const void* mine = shards.defined() ? element_pointer(shards, place_in_shards)
                                        : element_pointer(whole, begin + rank * count);
    done = communicator_.all_gather(mine, element_pointer(whole, begin), count * width, done);
  };
  gather_group(0, trainable, 0);
  gather_group(state.layout.total_elements(), frozen, trainable);
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
  const std::int64_t shard = state.layout.shard_elements();
  // Nobody else's part is needed here, or it is gathered when the block is.
  if (shard == 0 || !strategy.shards_optimizer() || strategy.shards_weights() || communicator_.size() == 1)
    return;
  const auto bytes = shard * static_cast<std::int64_t>(state.working.element_size());
  const std::int64_t own = communicator_.rank() * shard;
  if (state.working_pool == MemoryPool::device) {
    current_[index] = communicator_.all_gather(element_pointer(state.working, own),
                                               element_pointer(state.working, 0), bytes, after);
    return;
  }
  // Weights on the host pass through the block's slot, where the device's communicator can gather them.
  Slot& slot = slots_[slot_of_[index]];
  slot.holds.reset();
  Stream &upload = streams_.upload(), &download = streams_.download();
  upload.wait(slot.free);
  upload.wait(after);
  queue_copy(upload, slot.buffer, own, state.working, own, shard);
  const Event gathered = communicator_.all_gather(element_pointer(slot.buffer, own),
                                                  element_pointer(slot.buffer, 0), bytes, upload.record());
  download.wait(gathered);
  queue_copy(download, state.working, 0, slot.buffer, 0, state.layout.total_elements());
  current_[index] = slot.free = slot.filled = download.record();
}

}  // namespace autoglm
