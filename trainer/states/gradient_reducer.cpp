#include "trainer/states/gradient_reducer.h"

#include <algorithm>

#include "trainer/ops/kernel_work.h"
#include "trainer/ops/target.h"
#include "trainer/states/slot_plan.h"

namespace autoglm {
namespace {

// sum += values, or sum = values; bf16 sums are rounded to nearest. Host memory, on the calling thread.
void add_to_sum(const float* values, void* sum, bool bf16, std::int64_t count, bool first) {
  const auto& math = simd::float_kernels();
  if (bf16) {
    auto* to = static_cast<simd::bf16_bits*>(sum);
    first ? simd::activation_kernels<simd::bf16_bits>().narrow(values, to, count)
          : math.accumulate_bf16(values, to, count);
  } else if (first) {
    std::copy_n(values, count, static_cast<float*>(sum));
  } else {
    math.accumulate(values, static_cast<float*>(sum), count);
  }
}

// The same, shared among threads in pieces of at least `grain` elements.
void add_in_pieces(const float* values, void* sum, bool bf16, std::int64_t count, bool first,
                   std::int64_t grain) {
  const std::int64_t width = bf16 ? 2 : 4;
  at::parallel_for(0, count, grain, [&](std::int64_t begin, std::int64_t end) {
    add_to_sum(values + begin, static_cast<char*>(sum) + begin * width, bf16, end - begin, first);
  });
}

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
  slot.reduced = communicator_.reduce_scatter(data, sums, state.shard().size(), streams_.compute().record());
  slot.in_flight = true;
  in_flight_.push_back(index);
  for (const GradientPart& part : state.gradients) {
    if (part.pool == MemoryPool::host) download(slot, part);
  }
}

// Through two staging buffers: one is filled by the transfer while the other is added to the accumulator.
void GradientReducer::download(Slot& slot, const GradientPart& part) {
  Stream &transfer = streams_.download(), &work = streams_.host_work();
  transfer.wait(slot.reduced);
  const std::int64_t most = staging_[0].numel();
  for (std::int64_t at = part.range.begin; at < part.range.end; at += most) {
    const std::int64_t count = std::min(most, part.range.end - at);
    const std::size_t which = std::exchange(next_staging_, 1 - next_staging_);
    transfer.wait(staging_free_[which]);
    queue_copy(transfer, staging_[which], 0, slot.buffer, at, count);
    work.wait(transfer.record());
    if (!ops::computes(slot.buffer)) {
      count_addition(WorkKind::host_optimizer, part.sum, count, slot.first);
    } else {
      const auto* from = static_cast<const float*>(element_pointer(staging_[which], 0));
      void* to = element_pointer(part.sum, at - part.range.begin);
      const bool bf16 = part.sum.scalar_type() == at::kBFloat16;
      // Beside a GPU the cores are free; beside compute on the CPU they are not.
      const std::int64_t grain = slot.buffer.is_cuda() ? kAddGrain : count;
      work.submit([=, first = slot.first] { add_in_pieces(from, to, bf16, count, first, grain); });
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
  for (const GradientPart& part : slot.owner->gradients) {
    if (part.pool == MemoryPool::host || slot.in_place) continue;
    if (!ops::computes(slot.buffer)) {
      count_addition(WorkKind::gradients, part.sum, part.range.size(), slot.first);
      continue;
    }
    const bool bf16 = part.sum.scalar_type() == at::kBFloat16;
    const auto* from = static_cast<const float*>(element_pointer(slot.buffer, part.range.begin));
    void* to = element_pointer(part.sum, 0);
    if (part.sum.is_cuda()) {
      accumulate_on_device(from, to, bf16, part.range.size(), slot.first);
    } else {
      add_in_pieces(from, to, bf16, part.range.size(), slot.first, kAddGrain);
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
