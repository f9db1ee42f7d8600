#include "trainer/states/gradient_reducer.h"

#include <algorithm>

#include "trainer/ops/kernel_work.h"
#include "trainer/ops/target.h"
#include "trainer/states/host_sums.h"
#include "trainer/states/slot_plan.h"

namespace autoglm {
namespace {

constexpr std::int64_t kAddGrain = 1 << 16;

// Whether the sum over the ranks can be written where this rank keeps it.
bool takes_sums(const BlockState& state) {
  return state.gradients.size() == 1 && state.gradients.front().pool == MemoryPool::device &&
         state.gradients.front().sum.scalar_type() == at::kFloat;
}

// What one of these reads and writes.
void count_addition(WorkKind kind, const at::Tensor& sum, std::int64_t count, bool first) {
  const std::int64_t bytes = count * static_cast<std::int64_t>(sum.element_size());
  const std::int64_t values = count * static_cast<std::int64_t>(sizeof(float));
  count_work(kind, {values + (first ? 0 : bytes), bytes, 1, 0});
}

}  // namespace

GradientReducer::GradientReducer(std::span<BlockState> states, const StatePlacement& placement,
                                 Communicator& communicator, EngineStreams& streams)
    : states_(states), placement_(placement), communicator_(communicator), streams_(streams) {
  std::vector<std::int64_t> elements;
  for (const BlockState& state : states) elements.push_back(state.trained.total_elements());
  SlotPlan plan = placement.strategy.reduce == ReduceMode::step
                      ? own_slots(elements)
                      : share_slots(states, elements, TiedHeadSlot::of_layers);
  for (const std::int64_t size : plan.elements) {
    slots_.push_back({allocate_flat(size, at::kFloat, placement.device, MemoryCategory::gradients), nullptr,
                      false, false, false, Event(), Event()});
  }
  slot_of_ = std::move(plan.slot_of);
  const bool on_host = std::any_of(states.begin(), states.end(), [](const BlockState& state) {
    return std::any_of(state.gradients.begin(), state.gradients.end(),
                       [](const GradientPart& part) { return part.pool == MemoryPool::host; });
  });
  if (!on_host) return;
  for (at::Tensor& buffer : staging_) {
    buffer = allocate_flat(transfer_elements(placement.device), at::kFloat, placement.device,
                           MemoryCategory::staging, MemoryPool::host);
  }
}

GradientReducer::~GradientReducer() {
  if (!in_flight_.empty()) communicator_.abandon();
  for (const Slot& slot : slots_) {
    wait_quietly(slot.reduced);
    wait_quietly(slot.downloaded);
  }
  for (const Event& event : staging_free_) wait_quietly(event);
}

void GradientReducer::acquire(std::size_t index) {
  BlockState& state = states_[index];
  if (!state.trainable()) return;
  Slot& slot = slots_[slot_of_[index]];
  while (slot.in_flight) retire_oldest();
  AUTOGLM_CHECK(slot.owner == nullptr, "the slot of {} is still being written", state.block->name());
  AUTOGLM_CHECK(state.trained.total_elements() <= slot.buffer.numel(), "{} is larger than its slot",
                state.block->name());
  streams_.wait_exposed(slot.downloaded);
  slot.owner = &state;
  const at::Tensor flat = slot.buffer.narrow(0, 0, state.trained.total_elements());
  const bool keeps = placement_.strategy.reduce == ReduceMode::step && std::exchange(state.accumulated, true);
  if (!keeps) clear_padding(flat, state.trained.layout(), 0);
  state.bind_gradients(flat, !keeps);
}

void GradientReducer::reduce(std::size_t index) {
  BlockState& state = states_[index];
  if (!state.trainable()) return;
  Slot& slot = slots_[slot_of_[index]];
  AUTOGLM_CHECK(slot.owner == &state && !slot.in_flight, "{} holds no gradient buffer", state.block->name());
  for (const Parameter& parameter : state.block->parameters()) parameter.clear_gradient_if_fresh();
  state.bind_gradients(at::Tensor());
  if (placement_.strategy.reduce == ReduceMode::step) {
    slot.owner = nullptr;
    return;
  }
  slot.first = !std::exchange(state.accumulated, true);
  start(slot_of_[index]);
}

void GradientReducer::start(std::size_t index) {
  Slot& slot = slots_[index];
  BlockState& state = *slot.owner;
  auto* data = static_cast<float*>(element_pointer(slot.buffer, 0));
  slot.in_place = slot.first && communicator_.size() > 1 && takes_sums(state);
  auto* sums = static_cast<float*>(slot.in_place ? element_pointer(state.gradients.front().sum, 0)
                                                 : element_pointer(slot.buffer, state.shard().begin));
  const Parts parts = placement_.strategy.bf16_reduce ? Parts::bf16 : Parts::fp32;
  slot.reduced =
      communicator_.reduce_scatter(data, sums, state.shard().size(), parts, streams_.compute().record());
  slot.in_flight = true;
  in_flight_.push_back(index);
  const bool last = last_ || placement_.strategy.reduce == ReduceMode::step;
  for (GradientPart& part : state.gradients) {
    const bool on_device = ops::target_of(slot.buffer) == ops::Target::cuda;
    expect_squares(state.shard(), part,
                   last && !slot.in_place && (part.pool == MemoryPool::host || !on_device));
    if (part.pool == MemoryPool::host) download(slot, part);
  }
}

// Through two staging buffers: one is filled by the transfer while the other is added to the accumulator.
void GradientReducer::download(Slot& slot, GradientPart& part) {
  Stream &transfer = streams_.download(), &work = streams_.host_work();
  transfer.wait(slot.reduced);
  const std::int64_t most = staging_[0].numel();
  const ElementRange shard = slot.owner->shard();
  for (std::int64_t at = part.range.begin, count = 0; at < part.range.end; at += count) {
    count = std::min(end_at_piece(shard, at, most), part.range.end) - at;
    const std::size_t which = std::exchange(next_staging_, 1 - next_staging_);
    transfer.wait(staging_free_[which]);
    queue_copy(transfer, staging_[which], 0, slot.buffer, at, count);
    work.wait(transfer.record());
    if (!ops::computes(slot.buffer)) {
      count_addition(WorkKind::host_optimizer, part.sum, count, slot.first);
    } else {
      const auto* from = static_cast<const float*>(element_pointer(staging_[which], 0));
      // Beside a GPU the cores are free; beside compute on the CPU they are not.
      const std::int64_t grain = slot.buffer.is_cuda() ? kAddGrain : count;
      work.submit([=, &part, first = slot.first, squares = part.squared] {
        add_on_host(shard, part, from, {at, at + count}, first, squares, grain);
      });
    }
    staging_free_[which] = work.record();
  }
  slot.downloaded = transfer.record();
}

void GradientReducer::retire_oldest() {
  AUTOGLM_CHECK(!in_flight_.empty());
  Slot& slot = slots_[in_flight_.front()];
  in_flight_.pop_front();
  streams_.wait_exposed(slot.reduced);
  for (GradientPart& part : slot.owner->gradients) {
    if (part.pool == MemoryPool::host || slot.in_place) continue;
    if (!ops::computes(slot.buffer)) {
      count_addition(WorkKind::gradients, part.sum, part.range.size(), slot.first);
      continue;
    }
    const auto* from = static_cast<const float*>(element_pointer(slot.buffer, part.range.begin));
    if (part.sum.is_cuda()) {
      accumulate_on_device(from, element_pointer(part.sum, 0), part.sum.scalar_type() == at::kBFloat16,
                           part.range.size(), slot.first);
    } else {
      add_on_host(slot.owner->shard(), part, from, part.range, slot.first, part.squared, kAddGrain);
    }
  }
  slot.owner = nullptr;
  slot.in_flight = false;
}

void GradientReducer::finish() {
  if (placement_.strategy.reduce == ReduceMode::step) {
    for (std::size_t i = 0; i < states_.size(); ++i) {
      if (!states_[i].accumulated) continue;
      slots_[i].owner = &states_[i];
      slots_[i].first = true;
      start(i);
    }
  }
  while (!in_flight_.empty()) retire_oldest();
  for (const Event& event : staging_free_) streams_.wait_on_host(event);
}

void GradientReducer::discard() {
  while (!in_flight_.empty()) retire_oldest();
  for (const Event& event : staging_free_) streams_.wait_on_host(event);
  for (BlockState& state : states_) state.accumulated = false;
}

}  // namespace autoglm
