#include "trainer/optim/adamw.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "trainer/ops/target.h"

namespace autoglm {

AdamWFactors adamw_factors(const AdamWSettings& settings, double learning_rate, std::int64_t step,
                           double gradient_scale, bool decays) {
  const double bias1 = 1 - std::pow(settings.beta1, static_cast<double>(step));
  const double bias2 = 1 - std::pow(settings.beta2, static_cast<double>(step));
  AdamWFactors factors{};
  factors.decay = static_cast<float>(1 - (decays ? learning_rate * settings.weight_decay : 0));
  factors.beta1 = static_cast<float>(settings.beta1);
  factors.one_minus_beta1 = static_cast<float>(1 - settings.beta1);
  factors.beta2 = static_cast<float>(settings.beta2);
  factors.one_minus_beta2 = static_cast<float>(1 - settings.beta2);
  factors.step_size = static_cast<float>(learning_rate / bias1);
  factors.inverse_sqrt_bias2 = static_cast<float>(1 / std::sqrt(bias2));
  factors.epsilon = static_cast<float>(settings.epsilon);
  factors.gradient_scale = static_cast<float>(gradient_scale);
  return factors;
}

namespace {

// Elements that stay in the first-level cache from the first conversion to the last.
constexpr std::int64_t kPiece = 1 << 10;

using simd::bf16_bits;

const float* widened(const void* values, bool bf16, std::int64_t at, std::int64_t count, float* buffer) {
  if (!bf16) return static_cast<const float*>(values) + at;
  simd::activation_kernels<bf16_bits>().widen(static_cast<const bf16_bits*>(values) + at, buffer, count);
  return buffer;
}

// One piece of at most kPiece elements.
void update_piece(const AdamWSlice& slice, const AdamWUpdate& update, std::int64_t at, std::int64_t count) {
  alignas(64) float gradients[kPiece], masters[kPiece], firsts[kPiece], seconds[kPiece];
  const auto& math = simd::float_kernels();
  const float* gradient = widened(slice.gradient, slice.bf16_gradient, at, count, gradients);
  float* master = slice.master != nullptr ? slice.master + at : masters;
  auto* working = static_cast<bf16_bits*>(slice.working) + (slice.bf16_working ? at : 0);
  if (slice.remainder != nullptr) math.join_master(working, slice.remainder + at, master, count);
  float* moment1 = slice.bf16_moments ? firsts : static_cast<float*>(slice.moment1) + at;
  float* moment2 = slice.bf16_moments ? seconds : static_cast<float*>(slice.moment2) + at;
  if (update.first) {
    std::fill_n(moment1, count, 0.0f);
    std::fill_n(moment2, count, 0.0f);
  } else if (slice.bf16_moments) {
    widened(slice.moment1, true, at, count, firsts);
    widened(slice.moment2, true, at, count, seconds);
  }
  math.adamw(master, moment1, moment2, gradient, count, update.factors);
  if (slice.bf16_moments) {
    const std::uint64_t first = slice.first_element + static_cast<std::uint64_t>(at);
    math.narrow_stochastic(firsts, static_cast<bf16_bits*>(slice.moment1) + at, count, first,
                           update.noise_key);
    math.narrow_stochastic(seconds, static_cast<bf16_bits*>(slice.moment2) + at, count, first,
                           ~update.noise_key);
  }
  if (slice.remainder != nullptr) {
    math.split_master(master, working, slice.remainder + at, count);
  } else if (slice.working != nullptr && slice.bf16_working) {
    math.round_weights(master, working, count);
  } else if (slice.working != nullptr) {
    std::copy_n(master, count, static_cast<float*>(slice.working) + at);
  }
}

}  // namespace

void adamw(const AdamWSlice& slice, const AdamWUpdate& update) {
  at::parallel_for(0, slice.count, 1 << 15, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin; at < end; at += kPiece)
      update_piece(slice, update, at, std::min(kPiece, end - at));
  });
}

std::uint32_t adamw_noise_key(std::uint64_t seed, std::int64_t step) {
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const std::uint32_t key = mix_bits(low(seed) ^ mix_bits(low(seed >> 32) + 0x9E3779B9u));
  return mix_bits(key + low(static_cast<std::uint64_t>(step)));
}

double piece_sum_of_squares(const at::Tensor& flat, std::int64_t begin, std::int64_t count) {
  AUTOGLM_CHECK(flat.is_cpu() && count <= kSquaresPiece);
  const auto& math = simd::float_kernels();
  if (flat.scalar_type() == at::kFloat)
    return math.sum_of_squares(ops::read_pointer<float>(flat) + begin, count);
  std::array<float, kSquaresPiece> wide;
  simd::activation_kernels<bf16_bits>().widen(ops::read_pointer<bf16_bits>(flat) + begin, wide.data(), count);
  return math.sum_of_squares(wide.data(), count);
}

double clip_factor(double norm, double limit) {
  return limit > 0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0;
}

}  // namespace autoglm
