// Weights on their way in and out.
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "trainer/engine/engine.h"
#include "trainer/ops/target.h"

namespace autoglm {
namespace {

// Values handed in or out at a time.
constexpr std::int64_t kPiece = std::int64_t{1} << 20;

// What a value becomes when it is written as bf16: the same rounding as for working weights.
void round_to_bf16(std::span<float> values) {
  std::vector<simd::bf16_bits> rounded(values.size());
  simd::float_kernels().round_weights(values.data(), rounded.data(),
                                      static_cast<std::int64_t>(values.size()));
  simd::activation_kernels<simd::bf16_bits>().widen(rounded.data(), values.data(),
                                                    static_cast<std::int64_t>(values.size()));
}

// Values in host memory, whose type follows from T.
template <typename T>
at::Tensor wrapped(const T* values, std::int64_t count) {
  constexpr at::ScalarType kType = std::is_same_v<T, float>          ? at::kFloat
                                   : std::is_same_v<T, std::int16_t> ? at::kShort
                                                                     : at::kBFloat16;
  return at::from_blob(const_cast<T*>(values), {count}, kType);
}

// Copies values to or from elements of a flat tensor of the same type, wherever it lies.
template <typename T>
void write_elements(const at::Tensor& flat, std::int64_t at, const T* values, std::int64_t count) {
  if (flat.is_cpu()) {
    std::copy_n(values, count, ops::write_pointer<T>(flat) + at);
  } else {
    flat.narrow(0, at, count).copy_(wrapped(values, count));
  }
}
template <typename T>
void read_elements(const at::Tensor& flat, std::int64_t at, T* values, std::int64_t count) {
  if (flat.is_cpu()) {
    std::copy_n(ops::read_pointer<T>(flat) + at, count, values);
  } else {
    wrapped(values, count).copy_(flat.narrow(0, at, count));
  }
}

// Writes fp32 values, as master weights and rounded as working ones, to where they belong.
void store_working(const at::Tensor& working, std::int64_t at, std::span<const float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  if (working.scalar_type() == at::kFloat) {
    write_elements(working, at, values.data(), count);
    return;
  }
  if (working.is_cpu()) {
    simd::float_kernels().round_weights(values.data(), ops::write_pointer<simd::bf16_bits>(working) + at,
                                        count);
    return;
  }
  std::vector<simd::bf16_bits> rounded(values.size());
  simd::float_kernels().round_weights(values.data(), rounded.data(), count);
  write_elements(working, at, rounded.data(), count);
}

void store_master(const OptimizerPart& part, std::int64_t at, std::span<const float> values) {
  if (part.is_working) return;
  const auto count = static_cast<std::int64_t>(values.size());
  if (part.master.defined()) {
    write_elements(part.master, at, values.data(), count);
    return;
  }
  std::vector<simd::bf16_bits> upper(values.size());
  std::vector<std::int16_t> lower(values.size());
  simd::float_kernels().split_master(values.data(), upper.data(), lower.data(), count);
  // Weights that were saved in bf16 leave nothing over. Memory of the CPU that nobody has written yet is
  // zero, and stays unwritten here: the first touch of a page is slow, and the first step need not wait for
  // it.
  if (part.remainder.is_cpu() &&
      std::equal(lower.begin(), lower.end(), ops::read_pointer<std::int16_t>(part.remainder) + at)) {
    return;
  }
  write_elements(part.remainder, at, lower.data(), count);
}

}  // namespace

void Engine::load_piece(BlockState& state, std::size_t parameter, std::int64_t begin,
                        std::span<const float> values) {
  store_working(state.working, state.working_offset(parameter, begin), values);
  if (!state.block->parameters()[parameter].trainable()) return;
  const ElementRange piece{begin, begin + static_cast<std::int64_t>(values.size())};
  for (const OptimizerPart& part : state.optimizer) {
    const ElementRange range = piece.within(part.range);
    if (range.size() == 0) continue;
    store_master(part, range.begin - part.range.begin,
                 values.subspan(static_cast<std::size_t>(range.begin - begin),
                                static_cast<std::size_t>(range.size())));
  }
}

void Engine::load(const std::function<void(const std::string&, std::int64_t, std::span<float>)>& read) {
  std::vector<float> piece;
  for (BlockState& state : states_) {
    for (std::size_t i = 0; i < state.block->parameters().size(); ++i) {
      const ElementRange all = state.elements_of(i), held = state.held_elements_of(i);
      for (std::int64_t at = held.begin; at < held.end; at += kPiece) {
        piece.resize(static_cast<std::size_t>(std::min(kPiece, held.end - at)));
        read(state.block->parameters()[i].name(), at - all.begin, piece);
        load_piece(state, i, at, piece);
      }
    }
  }
}

// `range` is part of what this rank optimizes.
void Engine::read_master(const BlockState& state, ElementRange range, std::span<float> values) const {
  for (const OptimizerPart& part : state.optimizer) {
    const ElementRange mine = range.within(part.range);
    if (mine.size() == 0) continue;
    float* to = values.data() + (mine.begin - range.begin);
    const std::int64_t at = mine.begin - part.range.begin;
    if (part.master.defined()) {
      read_elements(part.master, at, to, mine.size());
    } else {
      // The two may lie in different memories.
      std::vector<simd::bf16_bits> upper(static_cast<std::size_t>(mine.size()));
      std::vector<std::int16_t> lower(upper.size());
      read_elements(state.working_range(mine), 0, upper.data(), mine.size());
      read_elements(part.remainder, at, lower.data(), mine.size());
      simd::float_kernels().join_master(upper.data(), lower.data(), to, mine.size());
    }
  }
}

// The communicator's collectives are for the device's memory; only its control messages are always for the
// host's.
void Engine::share_from(int owner, std::span<float> values) {
  if (!options_.device.is_cuda()) {
    communicator_.broadcast(values.data(), static_cast<std::int64_t>(values.size_bytes()), owner, Event())
        .synchronize();
    return;
  }
  const bool mine = owner == communicator_.rank();
  const auto all = communicator_.exchange(mine ? std::as_bytes(values) : std::span<const std::byte>());
  const std::vector<std::byte>& bytes = all[static_cast<std::size_t>(owner)];
  AUTOGLM_CHECK(bytes.size() == values.size_bytes(), "{} bytes from rank {}", bytes.size(), owner);
  std::memcpy(values.data(), bytes.data(), bytes.size());
}

void Engine::visit_pieces(
    bool sharded, const std::function<void(const BlockState&, ElementRange, std::span<float>)>& read,
    const std::function<void(const Parameter&, std::int64_t, std::span<float>)>& visit) {
  sharded = sharded && communicator_.size() > 1;
  std::vector<float> piece;
  for (const BlockState& state : states_) {
    const std::int64_t shard = state.layout.shard_elements();
    for (std::size_t i = 0; i < state.block->parameters().size(); ++i) {
      const Parameter& parameter = state.block->parameters()[i];
      if (!parameter.trainable()) continue;
      const ElementRange all = state.elements_of(i);
      for (std::int64_t at = all.begin; at < all.end;) {
        ElementRange range{at, std::min(at + kPiece, all.end)};
        const std::int64_t owner = at / shard;
        if (sharded) range = range.within({owner * shard, (owner + 1) * shard});
        piece.resize(static_cast<std::size_t>(range.size()));
        if (!sharded || owner == communicator_.rank()) read(state, range, piece);
        if (sharded) share_from(static_cast<int>(owner), piece);
        visit(parameter, range.begin - all.begin, piece);
        at = range.end;
      }
    }
  }
}

void Engine::export_parameters(
    const std::function<DType(const std::string&)>& save_dtype,
    const std::function<void(const std::string&, std::int64_t, std::span<const float>)>& visit) {
  visit_pieces(
      options_.strategy.shards_optimizer(),
      [&](const BlockState& state, ElementRange range, std::span<float> values) {
        read_master(state, range, values);
      },
      [&](const Parameter& parameter, std::int64_t offset, std::span<float> values) {
        if (save_dtype(parameter.name()) == DType::bfloat16) round_to_bf16(values);
        visit(parameter.name(), offset, values);
      });
}

void Engine::export_gradients(
    const std::function<void(const std::string&, std::int64_t, std::span<const float>)>& visit) {
  visit_pieces(
      true,
      [&](const BlockState& state, ElementRange range, std::span<float> values) {
        for (const GradientPart& part : state.gradients) {
          const ElementRange mine = range.within(part.range);
          if (mine.size() == 0) continue;
          const at::Tensor sum = part.sum.narrow(0, mine.begin - part.range.begin, mine.size())
                                     .to(at::TensorOptions().device(at::kCPU).dtype(at::kFloat));
          std::copy_n(ops::read_pointer<float>(sum), mine.size(), values.data() + (mine.begin - range.begin));
        }
      },
      [&](const Parameter& parameter, std::int64_t offset, std::span<float> values) {
        visit(parameter.name(), offset, values);
      });
}

void Engine::round_to_saved(const std::function<DType(const std::string&)>& save_dtype) {
  std::vector<float> piece;
  for (BlockState& state : states_) {
    for (std::size_t i = 0; i < state.block->parameters().size(); ++i) {
      const Parameter& parameter = state.block->parameters()[i];
      if (!parameter.trainable() || save_dtype(parameter.name()) != DType::bfloat16) continue;
      const ElementRange all = state.elements_of(i).within(state.optimizer_range());
      for (std::int64_t at = all.begin; at < all.end; at += kPiece) {
        const ElementRange range{at, std::min(at + kPiece, all.end)};
        piece.resize(static_cast<std::size_t>(range.size()));
        read_master(state, range, piece);
        round_to_bf16(piece);
        load_piece(state, i, range.begin, piece);
      }
    }
    if (state.trainable()) weights_->updated(static_cast<std::size_t>(&state - states_.data()), Event());
  }
}

}  // namespace autoglm
