#include "trainer/states/gradient_reducer.h"

#include <algorithm>

#include "trainer/ops/target.h"
#include "trainer/optim/adamw.h"

namespace autoglm {
namespace {

constexpr std::size_t kNumLayerSlots = 2;
constexpr std::size_t kOuterSlot = 2;

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

}  // namespace

GradientReducer::GradientReducer(std::span<BlockState> states, const StatePlacement& placement,
                                 Communicator& communicator, EngineStreams& streams)
    : states_(states), placement_(placement), communicator_(communicator), streams_(streams) {
  const auto make = [&](std::int64_t elements) {
    slots_.push_back({allocate_flat(elements, at::kFloat, placement.device, MemoryCategory::gradients),
                      nullptr, false, false, Event(), Event()});
  };
  if (placement.strategy.reduce == ReduceMode::step) {
    for (const BlockState& state : states) make(state.layout.total_elements());
  } else {
    const bool tied = states.back().block->reads_table();
    std::int64_t layer = 0;
    for (std::size_t i = 1; i + 1 < states.size(); ++i)
      layer = std::max(layer, states[i].layout.total_elements());
    const std::int64_t head = states.back().layout.total_elements();
    const std::int64_t outer = std::max(states.front().layout.total_elements(), tied ? 0 : head);
    if (tied) layer = std::max(layer, head);
    for (std::size_t i = 0; i < kNumLayerSlots; ++i) make(layer);
    make(outer);
  }
  const bool on_host = std::any_of(states.begin(), states.end(), [](const BlockState& state) {
    return std::any_of(state.gradients.begin(), state.gradients.end(),
                       [](const GradientPart& part) { return part.pool == MemoryPool::host; });
  });
  if (!on_host) return;
  for (at::Tensor& buffer : staging_) {
    buffer = allocate_flat(kTransferElements, at::kFloat, placement.device, MemoryCategory::staging,
                           MemoryPool::host);
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

std::size_t GradientReducer::slot_index(std::size_t index) const {
  if (placement_.strategy.reduce == ReduceMode::step) return index;
  const std::size_t last = states_.size() - 1;
  const bool tied = states_.back().block->reads_table();
  return index == 0 || (index == last && !tied) ? kOuterSlot : index % kNumLayerSlots;
}

void GradientReducer::acquire(std::size_t index) {
  BlockState& state = states_[index];
  if (!state.trainable()) return;
  Slot& slot = slots_[slot_index(index)];
  while (slot.in_flight) retire_oldest();
  AUTOGLM_CHECK(slot.owner == nullptr, "the slot of {} is still being written", state.block->name());
  AUTOGLM_CHECK(state.layout.total_elements() <= slot.buffer.numel(), "{} is larger than its slot",
                state.block->name());
  streams_.wait_exposed(slot.downloaded);
  slot.owner = &state;
  const at::Tensor flat = slot.buffer.narrow(0, 0, state.layout.total_elements());
  const bool keeps = placement_.strategy.reduce == ReduceMode::step && std::exchange(state.accumulated, true);
  if (!keeps) flat.zero_();
  state.bind_gradients(flat);
}

void GradientReducer::reduce(std::size_t index) {
  BlockState& state = states_[index];
  if (!state.trainable()) return;
  Slot& slot = slots_[slot_index(index)];
  AUTOGLM_CHECK(slot.owner == &state && !slot.in_flight, "{} holds no gradient buffer", state.block->name());
  state.bind_gradients(at::Tensor());
  if (placement_.strategy.reduce == ReduceMode::step) {
    slot.owner = nullptr;
    return;
  }
  slot.first = !std::exchange(state.accumulated, true);
  start(slot_index(index));
}

void GradientReducer::start(std::size_t index) {
  Slot& slot = slots_[index];
  BlockState& state = *slot.owner;
  auto* data = static_cast<float*>(element_pointer(slot.buffer, 0));
  auto* shard = static_cast<float*>(element_pointer(slot.buffer, state.shard().begin));
  slot.reduced =
      communicator_.reduce_scatter(data, shard, state.layout.shard_elements(), streams_.compute().record());
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
  for (std::int64_t at = part.range.begin; at < part.range.end; at += kTransferElements) {
    const std::int64_t count = std::min(kTransferElements, part.range.end - at);
    const std::size_t which = std::exchange(next_staging_, 1 - next_staging_);
    transfer.wait(staging_free_[which]);
    queue_copy(transfer, staging_[which], 0, slot.buffer, at, count);
    work.wait(transfer.record());
    if (ops::computes(slot.buffer)) {
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
    if (part.pool == MemoryPool::host || !ops::computes(slot.buffer)) continue;
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

namespace {

ElementRange piece_range(const ElementRange& shard, std::int64_t index) {
  const std::int64_t begin = shard.begin + index * kSquaresPiece;
  return {begin, std::min(begin + kSquaresPiece, shard.end)};
}

bool whole_in(const ElementRange& range, const GradientPart& part) {
  return part.range.begin <= range.begin && range.end <= part.range.end;
}

// Sums of the pieces that lie whole in `part`.
void sum_whole_pieces(const ElementRange& shard, const GradientPart& part, const at::Tensor& device_sums,
                      std::span<double> sums) {
  if (part.sum.is_cuda()) {
    // What lies on the device begins where the shard does; its last piece may go on elsewhere.
    AUTOGLM_CHECK(part.range.begin == shard.begin, "{} is not {}", part.range.begin, shard.begin);
    const bool all = part.range.end == shard.end;
    const std::int64_t count = all ? part.range.size() : part.range.size() / kSquaresPiece * kSquaresPiece;
    squares_on_device(part.sum, count, kSquaresPiece, device_sums, sums.data());
    return;
  }
  at::parallel_for(0, static_cast<std::int64_t>(sums.size()), 8, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const ElementRange range = piece_range(shard, i);
      if (!whole_in(range, part)) continue;
      sums[static_cast<std::size_t>(i)] =
          piece_sum_of_squares(part.sum, range.begin - part.range.begin, range.size());
    }
  });
}

}  // namespace

std::int64_t num_squares(const BlockState& state) {
  return (state.shard().size() + kSquaresPiece - 1) / kSquaresPiece;
}

double sum_of_squares(const BlockState& state, const at::Tensor& piece, const at::Tensor& device_sums) {
  double total = 0;
  if (state.gradients.empty() || !ops::computes(state.gradients.front().sum)) return total;
  const ElementRange shard = state.shard();
  std::vector<double> sums(static_cast<std::size_t>(num_squares(state)));
  for (const GradientPart& part : state.gradients) sum_whole_pieces(shard, part, device_sums, sums);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const ElementRange range = piece_range(shard, static_cast<std::int64_t>(i));
    const bool straddles = std::none_of(state.gradients.begin(), state.gradients.end(),
                                        [&](const GradientPart& part) { return whole_in(range, part); });
    if (straddles) {
      for (const GradientPart& part : state.gradients) {
        const ElementRange mine = range.within(part.range);
        if (mine.size() == 0) continue;
        piece.narrow(0, mine.begin - range.begin, mine.size())
            .copy_(part.sum.narrow(0, mine.begin - part.range.begin, mine.size()));
      }
      sums[i] = piece_sum_of_squares(piece, 0, range.size());
    }
    total += sums[i];
  }
  return total;
}

}  // namespace autoglm
