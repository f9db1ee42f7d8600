#include "trainer/states/state_values.h"

#include <ATen/ops/from_blob.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "trainer/ops/target.h"

namespace autoglm {
namespace {

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

std::int64_t round_as_saved(std::span<float> values, DType dtype) {
  const auto count_infinite = [&] {
    return std::ranges::count_if(values, [](float value) { return std::isinf(value); });
  };
  if (dtype != DType::bfloat16 && dtype != DType::float16) return 0;
  const std::int64_t before = count_infinite();
  if (dtype == DType::bfloat16) {
    std::vector<simd::bf16_bits> rounded(values.size());
    const auto count = static_cast<std::int64_t>(values.size());
    simd::float_kernels().round_weights(values.data(), rounded.data(), count);
    simd::activation_kernels<simd::bf16_bits>().widen(rounded.data(), values.data(), count);
  } else {
    for (float& value : values) value = static_cast<float>(c10::Half(value));
  }
  return count_infinite() - before;
}

void store_weights(BlockState& state, std::size_t parameter, std::int64_t begin,
                   std::span<const float> values) {
  const FlatWeights& group = state.group_of(parameter);
  store_working(group.values(), begin - group.held().begin, values);
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

void read_master(const BlockState& state, ElementRange range, std::span<float> values) {
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
      read_elements(state.trained.range(mine), 0, upper.data(), mine.size());
      read_elements(part.remainder, at, lower.data(), mine.size());
      simd::float_kernels().join_master(upper.data(), lower.data(), to, mine.size());
    }
  }
}

void read_gradient(const BlockState& state, ElementRange range, std::span<float> values) {
  for (const GradientPart& part : state.gradients) {
    const ElementRange mine = range.within(part.range);
    if (mine.size() == 0) continue;
    const at::Tensor sum = part.sum.narrow(0, mine.begin - part.range.begin, mine.size())
                               .to(at::TensorOptions().device(at::kCPU).dtype(at::kFloat));
    std::copy_n(ops::read_pointer<float>(sum), mine.size(), values.data() + (mine.begin - range.begin));
  }
}

}  // namespace autoglm
