// The loops behind kernels.h. Included once per instruction set with AUTOGLM_SIMD naming its namespace; a
// loop here is written so that the compiler vectorizes it without being allowed to reorder sums.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "trainer/simd/kernels.h"

namespace autoglm::simd::AUTOGLM_SIMD {
namespace {

constexpr std::int64_t kLanes = 16;

// Fused where the instruction set has it: elsewhere std::fma is a slow library call, and only AdamW's bits
// depend on it.
inline float multiply_add(float a, float b, float c) {
#ifdef __FMA__
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

inline float load(const float* x, std::int64_t i) {
  return x[i];
}
inline float load(const bf16_bits* x, std::int64_t i) {
  return widen_bf16(x[i]);
}
inline void store(float* x, std::int64_t i, float value) {
  x[i] = value;
}
inline void store(bf16_bits* x, std::int64_t i, float value) {
  x[i] = round_bf16(value);
}

// exp by range reduction to [-ln2/2, ln2/2] and a polynomial of degree 7 (Moshier's Cephes; relative
// error below 1e-7).
// Results below the smallest normal number are 0.
inline float fast_exp(float x) {
  constexpr float kLog2e = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kShift = 12582912.0f;
  const float clamped = x < -87.3f ? -87.3f : (x > 88.3f ? 88.3f : x);
  const float shifted = multiply_add(clamped, kLog2e, kShift);
  const float n = shifted - kShift;
  float r = multiply_add(n, -kLn2High, clamped);
  r = multiply_add(n, -kLn2Low, r);
  float p = 1.9875691500e-4f;
  p = multiply_add(p, r, 1.3981999507e-3f);
  p = multiply_add(p, r, 8.3334519073e-3f);
  p = multiply_add(p, r, 4.1665795894e-2f);
  p = multiply_add(p, r, 1.6666665459e-1f);
  p = multiply_add(p, r, 5.0000001201e-1f);
  p = multiply_add(p, r * r, r);
  p += 1.0f;
  const std::uint32_t exponent = (std::bit_cast<std::uint32_t>(shifted) << 23);
  const float result = std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) + exponent);
  // Out of range: zero below, infinity above; NaN passes (both comparisons are false and x - x is NaN).
  return x < -87.3f ? 0.0f : (x > 88.3f ? std::numeric_limits<float>::infinity() : result + (x - x));
}

inline float silu_sigmoid(float x) {
  return 1.0f / (1.0f + fast_exp(-x));
}

// Sum of term(i) over [0, n): 16 running sums in fp64, then the tail, in a fixed order. fp32 sums would lose
// what little is left where a few huge activations stand among small ones.
template <typename Term>
inline float ordered_sum(std::int64_t n, Term term) {
  double lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<double>(term(i + lane));
  }
  for (std::int64_t lane = 0; i < n; ++i, ++lane) lanes[lane] += static_cast<double>(term(i));
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return static_cast<float>(sum);
}

template <typename T>
void rms_norm_again(const T* x, const T* weight, T* y, std::int64_t n, float rstd) {
  for (std::int64_t i = 0; i < n; ++i) store(y, i, load(x, i) * rstd * load(weight, i));
}

template <typename T>
float rms_norm(const T* x, const T* weight, T* y, std::int64_t n, float eps) {
  const float squares = ordered_sum(n, [x](std::int64_t i) { return load(x, i) * load(x, i); });
  const float rstd = 1.0f / std::sqrt(squares / static_cast<float>(n) + eps);
  rms_norm_again(x, weight, y, n, rstd);
  return rstd;
}

template <typename T>
void rms_norm_backward(const T* x, const T* weight, const T* dy, float rstd, T* dx, float* dweight,
                       std::int64_t n) {
  const float dot =
      ordered_sum(n, [=](std::int64_t i) { return load(dy, i) * load(weight, i) * load(x, i); });
  const float shrink = dot * rstd * rstd / static_cast<float>(n);
  for (std::int64_t i = 0; i < n; ++i) {
    store(dx, i, rstd * (load(dy, i) * load(weight, i) - load(x, i) * shrink));
  }
  if (dweight == nullptr) return;
  for (std::int64_t i = 0; i < n; ++i) dweight[i] += load(dy, i) * (load(x, i) * rstd);
}

template <typename T>
void layer_norm_again(const T* x, const T* weight, const T* bias, T* y, std::int64_t n, float mean,
                      float rstd) {
  for (std::int64_t i = 0; i < n; ++i)
    store(y, i, multiply_add((load(x, i) - mean) * rstd, load(weight, i), load(bias, i)));
}

template <typename T>
void layer_norm(const T* x, const T* weight, const T* bias, T* y, std::int64_t n, float eps, float* mean,
                float* rstd) {
  const float center = ordered_sum(n, [x](std::int64_t i) { return load(x, i); }) / static_cast<float>(n);
  const float squares = ordered_sum(n, [x, center](std::int64_t i) {
    const float distance = load(x, i) - center;
    return distance * distance;
  });
  *mean = center;
  *rstd = 1.0f / std::sqrt(squares / static_cast<float>(n) + eps);
  layer_norm_again(x, weight, bias, y, n, center, *rstd);
}

template <typename T>
void layer_norm_backward(const T* x, const T* weight, const T* dy, float mean, float rstd, T* dx,
                         float* dweight, float* dbias, std::int64_t n) {
  const auto weighted = [=](std::int64_t i) { return load(dy, i) * load(weight, i); };
  const auto normed = [=](std::int64_t i) { return (load(x, i) - mean) * rstd; };
  const float shift = ordered_sum(n, weighted) / static_cast<float>(n);
  const float shrink =
      ordered_sum(n, [=](std::int64_t i) { return weighted(i) * normed(i); }) / static_cast<float>(n);
  for (std::int64_t i = 0; i < n; ++i) store(dx, i, rstd * (weighted(i) - shift - normed(i) * shrink));
  if (dweight != nullptr)
    for (std::int64_t i = 0; i < n; ++i) dweight[i] += load(dy, i) * normed(i);
  if (dbias != nullptr)
    for (std::int64_t i = 0; i < n; ++i) dbias[i] += load(dy, i);
}

template <typename T>
void relu(T* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float value = load(x, i);
    store(x, i, value < 0 ? 0.0f : value);
  }
}

template <typename T>
void relu_backward(const T* y, T* dy, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float gradient = load(dy, i);
    store(dy, i, load(y, i) <= 0 ? 0.0f : gradient);
  }
}

template <typename T>
void swiglu(const T* gate, const T* up, T* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = load(gate, i);
    store(out, i, g * silu_sigmoid(g) * load(up, i));
  }
}

template <typename T>
void swiglu_backward(const T* gate, const T* up, const T* dout, T* dgate, T* dup, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = load(gate, i);
    const float s = silu_sigmoid(g);
    const float d = load(dout, i);
    const float u = load(up, i);
    store(dup, i, d * (g * s));
    store(dgate, i, d * u * (s * (1.0f + g * (1.0f - s))));
  }
}

template <typename T>
void rotate(const T* x, T* y, const float* cosine, const float* sine, std::int64_t num_pairs, float sign,
            bool interleaved) {
  const std::int64_t stride = interleaved ? 2 : 1;
  const std::int64_t partner = interleaved ? 1 : num_pairs;
  for (std::int64_t i = 0; i < num_pairs; ++i) {
    const float a = load(x, i * stride);
    const float b = load(x, i * stride + partner);
    const float s = sine[i] * sign;
    store(y, i * stride, a * cosine[i] - b * s);
    store(y, i * stride + partner, b * cosine[i] + a * s);
  }
}

template <typename T>
void widen(const T* from, float* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = load(from, i);
}

template <typename T>
void narrow(const float* from, T* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) store(to, i, from[i]);
}

template <typename T>
void add(const T* from, T* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) store(to, i, load(to, i) + load(from, i));
}

float exp_and_sum(float* x, std::int64_t n, float scale, float shift) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = fast_exp(multiply_add(x[i], scale, -shift));
  return ordered_sum(n, [x](std::int64_t i) { return x[i]; });
}

// A NaN may be passed over here; it still reaches the sum of exponentials.
float maximum(const float* x, std::int64_t n) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  float lanes[kLanes];
  for (float& lane : lanes) lane = kLowest;
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = lanes[lane] > x[i + lane] ? lanes[lane] : x[i + lane];
    }
  }
  for (; i < n; ++i) lanes[0] = lanes[0] > x[i] ? lanes[0] : x[i];
  float result = kLowest;
  for (float lane : lanes) result = result > lane ? result : lane;
  return result;
}

void scale(float* x, std::int64_t n, float factor) {
  for (std::int64_t i = 0; i < n; ++i) x[i] *= factor;
}

// The sum is over the very products whose difference is taken: for a saturated softmax they cancel exactly.
void attention_backward(float* __restrict score, float* __restrict dprobability, std::int64_t n, float scale,
                        float shift, float inverse_sum) {
  for (std::int64_t i = 0; i < n; ++i)
    score[i] = fast_exp(multiply_add(score[i], scale, -shift)) * inverse_sum;
  const float delta = ordered_sum(n, [=](std::int64_t i) { return score[i] * dprobability[i]; });
  for (std::int64_t i = 0; i < n; ++i) dprobability[i] = score[i] * (dprobability[i] - delta) * scale;
}

float dot(const float* a, const float* b, std::int64_t n) {
  return ordered_sum(n, [a, b](std::int64_t i) { return a[i] * b[i]; });
}

void accumulate(const float* from, float* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] += from[i];
}

void accumulate_bf16(const float* __restrict from, bf16_bits* __restrict to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) store(to, i, load(to, i) + from[i]);
}

double sum_of_squares(const float* x, std::int64_t n) {
  constexpr std::int64_t kThreads = 256;
  double lanes[kThreads] = {};
  std::int64_t i = 0;
  for (; i + kThreads <= n; i += kThreads) {
    for (std::int64_t lane = 0; lane < kThreads; ++lane) {
      const double value = x[i + lane];
      lanes[lane] += value * value;
    }
  }
  for (std::int64_t lane = 0; i < n; ++i, ++lane) lanes[lane] += static_cast<double>(x[i]) * x[i];
  for (std::int64_t half = kThreads / 2; half > 0; half /= 2) {
    for (std::int64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

void adamw(float* __restrict master, float* __restrict moment1, float* __restrict moment2,
           const float* __restrict gradient, std::int64_t n, const AdamWFactors& factors) {
  const AdamWFactors f = factors;
  for (std::int64_t i = 0; i < n; ++i) adamw_element(master[i], moment1[i], moment2[i], gradient[i], f);
}

void round_weights(const float* __restrict master, bf16_bits* __restrict working, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) working[i] = round_weight(master[i]);
}

void split_master(const float* __restrict master, bf16_bits* __restrict working,
                  std::int16_t* __restrict remainder, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    working[i] = round_weight(master[i]);
    remainder[i] = weight_remainder(master[i]);
  }
}

void join_master(const bf16_bits* __restrict working, const std::int16_t* __restrict remainder,
                 float* __restrict master, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) master[i] = join_weight(working[i], remainder[i]);
}

void narrow_stochastic(const float* __restrict from, bf16_bits* __restrict to, std::int64_t n,
                       std::uint64_t first, std::uint32_t key) {
  for (std::int64_t i = 0; i < n; ++i)
    to[i] = round_stochastically(from[i], first + static_cast<std::uint64_t>(i), key);
}

template <typename T>
constexpr ActivationKernels<T> make_activation_kernels() {
  return {&rms_norm<T>,
          &rms_norm_again<T>,
          &rms_norm_backward<T>,
          &layer_norm<T>,
          &layer_norm_again<T>,
          &layer_norm_backward<T>,
          &relu<T>,
          &relu_backward<T>,
          &swiglu<T>,
          &swiglu_backward<T>,
          &rotate<T>,
          &widen<T>,
          &narrow<T>,
          &add<T>};
}

}  // namespace

extern const ActivationKernels<float> kFp32Kernels = make_activation_kernels<float>();
extern const ActivationKernels<bf16_bits> kBf16Kernels = make_activation_kernels<bf16_bits>();
extern const FloatKernels kFloatKernels = {
    &exp_and_sum,      &maximum,        &scale, &attention_backward, &dot,          &accumulate,
    &accumulate_bf16,  &sum_of_squares, &adamw, &round_weights,      &split_master, &join_master,
    &narrow_stochastic};

}  // namespace autoglm::simd::AUTOGLM_SIMD
