// What AdamW does to one element: the same function on the CPU and on CUDA, so that both give the same bits.
#pragma once

#include <cmath>

#include "base/bf16.h"

namespace autoglm {

// What is the same for all elements of a step; every factor is computed in double precision first.
struct AdamWFactors {
  float decay;  // 1 - learning_rate * weight_decay
  float beta1;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float step_size;           // learning_rate / (1 - beta1^step)
  float inverse_sqrt_bias2;  // 1 / sqrt(1 - beta2^step)
  float epsilon;
  float gradient_scale;  // clipping
};

// AdamW with decoupled decay (Loshchilov and Hutter, 2019). Products and sums are fused only where std::fma
// says so; compile with contraction off.
AUTOGLM_HOST_DEVICE inline void adamw_element(float& master, float& moment1, float& moment2, float gradient,
                                              const AdamWFactors& f) {
  const float g = gradient * f.gradient_scale;
  const float m = std::fma(f.beta1, moment1, f.one_minus_beta1 * g);
  const float v = std::fma(f.beta2, moment2, f.one_minus_beta2 * g * g);
  const float denominator = std::fma(std::sqrt(v), f.inverse_sqrt_bias2, f.epsilon);
  moment1 = m;
  moment2 = v;
  master = std::fma(-f.step_size, m / denominator, f.decay * master);
}

}  // namespace autoglm
