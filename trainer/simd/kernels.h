// Inner loops on the CPU, compiled once per instruction set and chosen when the program starts.
//
// All work on one row or one range on the calling thread. Sums run over 16 lanes in a fixed order, so every
// instruction set gives the same bits where it has fused multiply-add.
#pragma once

#include <cstdint>

#include "trainer/simd/adamw_element.h"

namespace autoglm::simd {

// A bfloat16 as it lies in memory.
using bf16_bits = std::uint16_t;

// T is float or bf16_bits: the storage type of activations. Arithmetic is fp32.
template <typename T>
struct ActivationKernels {
  // y = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + eps), over n elements; returns rstd.
  float (*rms_norm)(const T* x, const T* weight, T* y, std::int64_t n, float eps);
  // y from a known rstd: the same bits as rms_norm.
  void (*rms_norm_again)(const T* x, const T* weight, T* y, std::int64_t n, float rstd);
  // dx of one row; adds the row's share to the fp32 gradient of the weight when that is not null.
  void (*rms_norm_backward)(const T* x, const T* weight, const T* dy, float rstd, T* dx, float* dweight,
                            std::int64_t n);
  // y = (x - mean) * rstd * weight + bias over n elements; stores the mean and rstd = 1 / sqrt(variance +
  // eps).
  void (*layer_norm)(const T* x, const T* weight, const T* bias, T* y, std::int64_t n, float eps, float* mean,
                     float* rstd);
  // y from known statistics: the same bits as layer_norm.
  void (*layer_norm_again)(const T* x, const T* weight, const T* bias, T* y, std::int64_t n, float mean,
                           float rstd);
  // dx of one row; adds the row's shares to the fp32 gradients of weight and bias that are not null.
  void (*layer_norm_backward)(const T* x, const T* weight, const T* dy, float mean, float rstd, T* dx,
                              float* dweight, float* dbias, std::int64_t n);
  // x = max(x, 0); NaNs stay.
  void (*relu)(T* x, std::int64_t n);
  // dy = 0 where y is not above 0.
  void (*relu_backward)(const T* y, T* dy, std::int64_t n);
  // out = silu(gate) * up.
  void (*swiglu)(const T* gate, const T* up, T* out, std::int64_t n);
  void (*swiglu_backward)(const T* gate, const T* up, const T* dout, T* dgate, T* dup, std::int64_t n);
  // Rotates num_pairs pairs of one head by the angles whose cosines and sines are given; sign = -1 rotates
  // back. Pairs are (i, i + num_pairs) when `interleaved` is false, (2i, 2i + 1) otherwise. x may be y.
  void (*rotate)(const T* x, T* y, const float* cosine, const float* sine, std::int64_t num_pairs, float sign,
                 bool interleaved);
  // Conversions between storage and fp32; narrowing rounds to nearest, halves to even.
  void (*widen)(const T* from, float* to, std::int64_t n);
  void (*narrow)(const float* from, T* to, std::int64_t n);
  // to += from, rounded once to T.
  void (*add)(const T* from, T* to, std::int64_t n);
};

struct FloatKernels {
  // x = exp(x * scale - shift) in place; returns the sum.
  float (*exp_and_sum)(float* x, std::int64_t n, float scale, float shift);
  float (*maximum)(const float* x, std::int64_t n);
  // x *= factor.
  void (*scale)(float* x, std::int64_t n, float factor);
  // Softmax's backward of attention, for one query: probabilities p = exp(score * scale - shift) *
  // inverse_sum over score, and dscore = p * (dprobability - sum of p * dprobability) * scale over
  // dprobability.
  void (*attention_backward)(float* score, float* dprobability, std::int64_t n, float scale, float shift,
                             float inverse_sum);
  float (*dot)(const float* a, const float* b, std::int64_t n);
  // to += from.
  void (*accumulate)(const float* from, float* to, std::int64_t n);
  // to += from, rounded to nearest.
  void (*accumulate_bf16)(const float* from, bf16_bits* to, std::int64_t n);
  // Sum of squares in fp64: 256 running sums, then halves added pairwise, as the CUDA kernel does.
  double (*sum_of_squares)(const float* x, std::int64_t n);
  // adamw_element on n elements: the same bits for an element wherever the range is cut.
  void (*adamw)(float* master, float* moment1, float* moment2, const float* gradient, std::int64_t n,
                const AdamWFactors& factors);
  // fp32 to bf16, to nearest, halves away from zero: how master weights become working weights.
  void (*round_weights)(const float* master, bf16_bits* working, std::int64_t n);
  // The same rounding, and what it leaves over: working << 16 plus the remainder is the master's bits, but
  // for NaNs, which stay some NaN. Half the master's bytes are in the working weight already.
  void (*split_master)(const float* master, bf16_bits* working, std::int16_t* remainder, std::int64_t n);
  void (*join_master)(const bf16_bits* working, const std::int16_t* remainder, float* master, std::int64_t n);
  // fp32 to bf16, up or down at random so that the expectation is exact; element i takes the noise of
  // (key, first + i), whatever the range.
  void (*narrow_stochastic)(const float* from, bf16_bits* to, std::int64_t n, std::uint64_t first,
                            std::uint32_t key);
};

template <typename T>
const ActivationKernels<T>& activation_kernels();
template <>
const ActivationKernels<float>& activation_kernels<float>();
template <>
const ActivationKernels<bf16_bits>& activation_kernels<bf16_bits>();

const FloatKernels& float_kernels();

// "avx512", "avx2" or "baseline".
const char* instruction_set();

}  // namespace autoglm::simd
