#include "trainer/states/optimizer_step.h"

#include <algorithm>
#include <exception>

#include "sharding/work.h"
#include "trainer/ops/target.h"

namespace autoglm {
namespace {

const GradientPart& gradient_of(const BlockState& state, const OptimizerPart& part) {
  for (const GradientPart& gradient : state.gradients) {
    if (gradient.pool == part.pool) return gradient;
  }
  AUTOGLM_CHECK(false, "{} has no gradients where its optimizer state lies", state.block->name());
}

// Of AdamW on `count` elements: gradients are read, moments, master and remainder read and written, and working
// weights too where they are a part of the master.
Work work_of(const OptimizerPart& part, const StatePlacement& placement, std::int64_t count) {
  const std::int64_t weight = placement.precision == Precision::bf16 ? 2 : 4;
  const std::int64_t moments = placement.strategy.bf16_moments ? 4 : 8;
  const std::int64_t gradient = placement.strategy.bf16_gradients ? 2 : 4;
  const bool split = part.remainder.defined();
  const std::int64_t state = moments + (split ? 2 + weight : 4);
  const std::int64_t written = split || part.is_working ? 0 : weight;
  return {count * (gradient + state), count * (state + written), 1, 0};
}

}  // namespace

OptimizerStep::OptimizerStep(std::span<BlockState> states, const StatePlacement& placement,
                             Communicator& communicator, EngineStreams& streams, GradientReducer& reducer,
                             WeightSource& weights, std::uint64_t seed)
    : states_(states),
      placement_(placement),
      communicator_(communicator),
      streams_(streams),
      reducer_(reducer),
      weights_(weights),
      seed_(seed),
      weights_on_host_(placement.strategy.weights == WeightSourceKind::host),
      gathers_(!placement.strategy.shards_optimizer() && communicator.size() > 1),
      gathers_done_(states.size()) {
  const std::int64_t staged_elements = transfer_elements(placement.device);
  bool any_weights = false, any_gradients = false;
  std::uint64_t elements = 0;
  for (std::size_t block = 0; block < states.size(); ++block) {
    const BlockState& state = states[block];
    first_elements_.emplace_back();
    for (const Parameter& parameter : state.block->parameters()) {
      first_elements_.back().push_back(elements);
      elements += static_cast<std::uint64_t>(parameter.spec().num_elements());
    }
    for (std::size_t i = 0; i < state.optimizer.size(); ++i) {
      const OptimizerPart& part = state.optimizer[i];
      const bool staged = stages_weights(part) || stages_gradients(part);
      any_weights |= stages_weights(part);
      any_gradients |= stages_gradients(part);
      const std::int64_t step = staged ? staged_elements : part.range.size();
      for (std::int64_t at = part.range.begin; at < part.range.end; at += step) {
        pieces_.push_back({block, i, {at, std::min(at + step, part.range.end)}, false});
      }
    }
    if (state.trainable() && !state.optimizer.empty()) pieces_.back().last = true;
  }
  const MemoryPool other = weights_on_host_ ? MemoryPool::device : MemoryPool::host;
  for (std::size_t i = 0; i < kNumStages; ++i) {
    if (any_weights) {
      weight_staging_[i] = allocate_flat(staged_elements, scalar_type(placement.precision), placement.device,
                                         MemoryCategory::staging, other);
    }
    if (any_gradients) {
      gradient_staging_[i] =
          allocate_flat(staged_elements, placement.strategy.bf16_gradients ? at::kBFloat16 : at::kFloat,
                        placement.device, MemoryCategory::staging, MemoryPool::host);
    }
  }
}

OptimizerStep::~OptimizerStep() {
  const bool all_done = std::all_of(gathers_done_.begin(), gathers_done_.end(),
                                    [](const Event& event) { return event.ready(); });
  if (std::uncaught_exceptions() > 0 && !all_done) communicator_.abandon();
  for (const Event& event : gathers_done_) wait_quietly(event);
  for (const Event& event : loaded_) wait_quietly(event);
  for (const Event& event : stored_) wait_quietly(event);
}

bool OptimizerStep::stages_weights(const OptimizerPart& part) const {
  return (part.pool == MemoryPool::host) != weights_on_host_;
}

// The whole block's gradients, in the accumulators' dtype, in the reducer's slot.
at::Tensor OptimizerStep::gathered(std::size_t block) const {
  const at::Tensor& slot = reducer_.scratch(block);
  return placement_.strategy.bf16_gradients ? slot.view(at::kBFloat16) : slot;
}

void OptimizerStep::start_gather(std::size_t block) {
  const BlockState& state = states_[block];
  if (!state.trainable()) return;
  const at::Tensor whole = gathered(block);
  Stream &upload = streams_.upload(), &compute = streams_.compute();
  const auto copy_parts = [&](MemoryPool pool, Stream& stream) {
    bool any = false;
    for (const GradientPart& part : state.gradients) {
      if (part.pool != pool) continue;
      queue_copy(stream, whole, part.range.begin, part.sum, 0, part.range.size());
      any = true;
    }
    return any;
  };
  copy_parts(MemoryPool::device, compute);
  // The slot's previous block has been read by compute.
  upload.wait(compute.record());
  const bool from_host = copy_parts(MemoryPool::host, upload);
  const std::int64_t count = state.shard().size();
  gathers_done_[block] = communicator_.all_gather(element_pointer(whole, communicator_.rank() * count),
                                                  element_pointer(whole, 0),
                                                  count * static_cast<std::int64_t>(whole.element_size()),
                                                  from_host ? upload.record() : compute.record());
}

// Gradients are gathered one block ahead, where the next block has another slot.
void OptimizerStep::gather_ahead(std::size_t first_piece) {
  const std::size_t block = pieces_[first_piece].block;
  if (gathered_until_ <= block) start_gather(block);
  gathered_until_ = std::max(gathered_until_, block + 1);
  const auto next = std::find_if(pieces_.begin() + static_cast<std::ptrdiff_t>(first_piece), pieces_.end(),
                                 [&](const Piece& piece) { return piece.block != block; });
  if (next == pieces_.end() || reducer_.scratch(next->block).is_same(reducer_.scratch(block))) return;
  start_gather(next->block);
  gathered_until_ = next->block + 1;
}

void OptimizerStep::load(std::size_t index) {
  const Piece& piece = pieces_[index];
  const OptimizerPart& part = part_of(piece);
  const std::size_t stage = index % kNumStages;
  const bool loads_weights = stages_weights(part) && part.remainder.defined();
  if (!loads_weights && !stages_gradients(part)) return;
  Stream& stream = stages_gradients(part) ? streams_.download() : inward();
  stream.wait(stored_[stage]);
  if (loads_weights) {
    queue_copy(stream, weight_staging_[stage], 0, states_[piece.block].trained.range(piece.range), 0,
               piece.range.size());
  }
  if (stages_gradients(part)) {
    stream.wait(gathers_done_[piece.block]);
    queue_copy(stream, gradient_staging_[stage], 0, gathered(piece.block), piece.range.begin,
               piece.range.size());
  }
  loaded_[stage] = stream.record();
}

AdamWSlice OptimizerStep::slice_of(std::size_t index, ElementRange range) const {
  const Piece& piece = pieces_[index];
  const BlockState& state = states_[piece.block];
  const OptimizerPart& part = part_of(piece);
  const std::size_t stage = index % kNumStages;
  const std::int64_t in_part = range.begin - part.range.begin, in_piece = range.begin - piece.range.begin;
  AdamWSlice slice;
  slice.count = range.size();
  slice.bf16_working = placement_.precision == Precision::bf16;
  slice.bf16_moments = placement_.strategy.bf16_moments;
  slice.bf16_gradient = placement_.strategy.bf16_gradients;
  slice.moment1 = element_pointer(part.moment1, in_part);
  slice.moment2 = element_pointer(part.moment2, in_part);
  if (part.remainder.defined()) {
    slice.remainder = static_cast<std::int16_t*>(element_pointer(part.remainder, in_part));
  } else {
    slice.master = static_cast<float*>(element_pointer(part.master, in_part));
  }
  if (stages_weights(part)) {
    slice.working = element_pointer(weight_staging_[stage], in_piece);
  } else if (!part.is_working) {
    slice.working = element_pointer(state.trained.range(range), 0);
  }
  if (stages_gradients(part)) {
    slice.gradient = element_pointer(gradient_staging_[stage], in_piece);
  } else if (gathers_) {
    slice.gradient = element_pointer(gathered(piece.block), range.begin);
  } else {
    const GradientPart& gradient = gradient_of(state, part);
    slice.gradient = element_pointer(gradient.sum, range.begin - gradient.range.begin);
  }
  return slice;
}

void OptimizerStep::update(std::size_t index, StepContext& context) {
  const Piece& piece = pieces_[index];
  const BlockState& state = states_[piece.block];
  const bool on_host = part_of(piece).pool == MemoryPool::host;
  // A state on the host is updated by this thread: what it reads must be there now, not in the device's
  // order.
  const auto wait = [&](const Event& event) {
    on_host ? streams_.wait_on_host(event) : streams_.wait_exposed(event);
  };
  if (gathers_) wait(gathers_done_[piece.block]);
  wait(loaded_[index % kNumStages]);
  wait(stored_[index % kNumStages]);
  const bool computes = ops::computes(state.trained.values());
  context.plain.first = context.decaying.first = !state.stepped;
  for (std::size_t i = 0; i < state.block->parameters().size(); ++i) {
    const Parameter& parameter = state.block->parameters()[i];
    if (!parameter.trainable()) continue;
    const ElementRange all = state.elements_of(i), range = all.within(piece.range);
    if (range.size() == 0) continue;
    if (!computes) {
      count_work(on_host ? WorkKind::host_optimizer : WorkKind::optimizer,
                 work_of(part_of(piece), placement_, range.size()));
      continue;
    }
    AdamWSlice slice = slice_of(index, range);
    slice.first_element =
        first_elements_[piece.block][i] + static_cast<std::uint64_t>(range.begin - all.begin);
    const AdamWUpdate& update = parameter.spec().decays ? context.decaying : context.plain;
    placement_.device.is_cuda() && !on_host ? adamw_on_device(slice, update) : adamw(slice, update);
  }
}

void OptimizerStep::store(std::size_t index) {
  const Piece& piece = pieces_[index];
  if (!stages_weights(part_of(piece))) return;
  outward().wait(streams_.compute().record());
  const BlockState& state = states_[piece.block];
  queue_copy(outward(), state.trained.range(piece.range), 0, weight_staging_[index % kNumStages], 0,
             piece.range.size());
  stored_[index % kNumStages] = outward().record();
}

void OptimizerStep::run(const AdamWSettings& settings, double learning_rate, std::int64_t step,
                        double gradient_scale) {
  StepContext context;
  context.decaying.factors = adamw_factors(settings, learning_rate, step, gradient_scale, true);
  context.plain.factors = adamw_factors(settings, learning_rate, step, gradient_scale, false);
  gathered_until_ = 0;
  context.decaying.noise_key = context.plain.noise_key = adamw_noise_key(seed_, step);
  std::size_t loaded = 0;
  bool staged = false;
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    if (gathers_ && (i == 0 || pieces_[i - 1].block != piece.block)) gather_ahead(i);
    // Pieces are loaded one ahead of the update, once the gradients of their block are on their way.
    for (; loaded < std::min(i + 2, pieces_.size()); ++loaded) {
      if (gathers_ && gathered_until_ <= pieces_[loaded].block) break;
      load(loaded);
    }
    update(i, context);
    store(i);
    staged |= stages_weights(part_of(piece));
    if (!piece.last) continue;
    states_[piece.block].stepped = true;
    states_[piece.block].accumulated = false;
    weights_.updated(piece.block,
                     std::exchange(staged, false) ? outward().record() : streams_.compute().record());
  }
}

}  // namespace autoglm
