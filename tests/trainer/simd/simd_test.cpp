// The inner loops of every instruction set that this CPU has, beside each other and beside plain loops.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "trainer/simd/kernels.h"

namespace autoglm::simd {

#define AUTOGLM_DECLARE_KERNELS(name)                     \
  namespace name {                                        \
  extern const ActivationKernels<float> kFp32Kernels;     \
  extern const ActivationKernels<bf16_bits> kBf16Kernels; \
  extern const FloatKernels kFloatKernels;                \
  }
AUTOGLM_DECLARE_KERNELS(baseline)
#ifdef __x86_64__
AUTOGLM_DECLARE_KERNELS(avx2)
AUTOGLM_DECLARE_KERNELS(avx512)
#endif
#undef AUTOGLM_DECLARE_KERNELS

namespace {

struct Set {
  const char* name;
  bool fused;  // has fused multiply-add
  const ActivationKernels<float>* fp32;
  const ActivationKernels<bf16_bits>* bf16;
  const FloatKernels* floats;
};

std::vector<Set> supported_sets() {
  std::vector<Set> sets{
      {"baseline", false, &baseline::kFp32Kernels, &baseline::kBf16Kernels, &baseline::kFloatKernels}};
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    sets.push_back({"avx2", true, &avx2::kFp32Kernels, &avx2::kBf16Kernels, &avx2::kFloatKernels});
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    sets.push_back({"avx512", true, &avx512::kFp32Kernels, &avx512::kBf16Kernels, &avx512::kFloatKernels});
  }
#endif
  return sets;
}

using Values = std::vector<float>;

Values random_values(std::size_t count, std::uint32_t seed, float low = -2, float high = 2) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  Values values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void expect_agrees(const Set& set, const Values& reference, const Values& actual, bool every_bit,
                   const char* what) {
  ASSERT_EQ(reference.size(), actual.size());
  if (every_bit) {
    EXPECT_TRUE(same_bits(reference, actual)) << what << " with " << set.name;
    return;
  }
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], reference[i], 1e-6f + 3e-6f * std::abs(reference[i]))
        << what << " with " << set.name;
  }
}

const std::size_t kCounts[] = {1, 7, 16, 31, 64, 1000, 1003};

constexpr AdamWFactors kFactors{.decay = 0.9999f,
                                .beta1 = 0.9f,
                                .one_minus_beta1 = 0.1f,
                                .beta2 = 0.95f,
                                .one_minus_beta2 = 0.05f,
                                .step_size = 1.3e-3f,
                                .inverse_sqrt_bias2 = 1.7f,
                                .epsilon = 1e-8f,
                                .gradient_scale = 0.37f};

struct AdamWState {
  Values master, moment1, moment2, gradient;

  explicit AdamWState(std::size_t count)
      : master(random_values(count, 1)),
        moment1(random_values(count, 2, -0.1f, 0.1f)),
        moment2(random_values(count, 3, 0, 0.01f)),
        gradient(random_values(count, 4)) {
    for (std::size_t i = 0; i < count; i += 5) gradient[i] = moment1[i] = moment2[i] = 0;
  }
  void run(const FloatKernels& kernels, std::size_t begin, std::size_t end) {
    kernels.adamw(master.data() + begin, moment1.data() + begin, moment2.data() + begin,
                  gradient.data() + begin, static_cast<std::int64_t>(end - begin), kFactors);
  }
  bool equals(const AdamWState& other) const {
    return same_bits(master, other.master) && same_bits(moment1, other.moment1) &&
           same_bits(moment2, other.moment2);
  }
};

TEST(SimdTest, ChoosesASetThatTheCpuHas) {
  EXPECT_STREQ(instruction_set(), supported_sets().back().name);
  EXPECT_EQ(&float_kernels(), supported_sets().back().floats);
}

TEST(SimdTest, AdamWGivesTheSameBitsWhereverARangeIsCut) {
  constexpr std::size_t kCount = 4099;
  std::mt19937 random(17);
  for (const Set& set : supported_sets()) {
    AdamWState whole(kCount);
    whole.run(*set.floats, 0, kCount);
    EXPECT_FALSE(same_bits(whole.master, AdamWState(kCount).master));
    for (int repeat = 0; repeat < 20; ++repeat) {
      AdamWState cut(kCount);
      for (std::size_t begin = 0; begin < kCount;) {
        const std::size_t end = std::min(kCount, begin + 1 + random() % (repeat < 10 ? 50 : 1500));
        cut.run(*set.floats, begin, end);
        begin = end;
      }
      EXPECT_TRUE(cut.equals(whole)) << set.name;
    }
  }
}

TEST(SimdTest, AdamWAndRoundingAgreeToTheBitInEverySet) {
  for (const std::size_t count : kCounts) {
    AdamWState expected(count);
    expected.run(baseline::kFloatKernels, 0, count);
    std::vector<bf16_bits> expected_bits(count), bits(count);
    baseline::kFloatKernels.round_weights(expected.master.data(), expected_bits.data(),
                                          static_cast<std::int64_t>(count));
    for (const Set& set : supported_sets()) {
      AdamWState actual(count);
      actual.run(*set.floats, 0, count);
      EXPECT_TRUE(actual.equals(expected)) << set.name << ", " << count;
      set.floats->round_weights(actual.master.data(), bits.data(), static_cast<std::int64_t>(count));
      EXPECT_EQ(bits, expected_bits) << set.name;
    }
  }
}

TEST(SimdTest, SumsOfSquaresAndAccumulationAgreeToTheBitInEverySet) {
  for (const std::size_t count : kCounts) {
    const Values x = random_values(count, 5);
    const auto n = static_cast<std::int64_t>(count);
    double exact = 0;
    for (const float value : x) exact += static_cast<double>(value) * value;
    for (const Set& set : supported_sets()) {
      EXPECT_EQ(set.floats->sum_of_squares(x.data(), n), baseline::kFloatKernels.sum_of_squares(x.data(), n));
      EXPECT_NEAR(set.floats->sum_of_squares(x.data(), n), exact, 1e-12 * exact);
      Values expected = random_values(count, 6), actual = expected;
      for (std::size_t i = 0; i < count; ++i) expected[i] += x[i];
      set.floats->accumulate(x.data(), actual.data(), n);
      EXPECT_TRUE(same_bits(actual, expected)) << set.name;
    }
  }
}

// A NaN stays one; every other value comes back, and its upper half is what round_weights gives.
void expect_split_is_lossless(const Set& set, std::uint32_t first_bits, std::size_t count) {
  std::vector<float> master(count), joined(count);
  std::vector<bf16_bits> working(count), rounded(count);
  std::vector<std::int16_t> remainder(count);
  for (std::size_t i = 0; i < count; ++i)
    master[i] = std::bit_cast<float>(first_bits + static_cast<std::uint32_t>(i));
  const auto n = static_cast<std::int64_t>(count);
  set.floats->split_master(master.data(), working.data(), remainder.data(), n);
  set.floats->join_master(working.data(), remainder.data(), joined.data(), n);
  set.floats->round_weights(master.data(), rounded.data(), n);
  ASSERT_EQ(std::memcmp(working.data(), rounded.data(), count * sizeof(bf16_bits)), 0) << set.name;
  if (std::memcmp(master.data(), joined.data(), count * sizeof(float)) == 0) return;
  for (std::size_t i = 0; i < count; ++i) {
    const bool same = std::isnan(master[i]) ? std::isnan(joined[i])
                                            : std::bit_cast<std::uint32_t>(master[i]) ==
                                                  std::bit_cast<std::uint32_t>(joined[i]);
    ASSERT_TRUE(same) << set.name << ": bits " << std::hex << std::bit_cast<std::uint32_t>(master[i]);
  }
}

// All 2^32 bit patterns with the fastest set: subnormals, signed zeros, carries into the exponent,
// infinities. The others take every 41st run.
TEST(SimdTest, TheSplitMasterLosesNothing) {
  constexpr std::uint64_t kRun = 1 << 12;
#ifdef __SANITIZE_ADDRESS__
  constexpr std::uint64_t kStep = 37;  // slow there, and the bits are no other
#else
  constexpr std::uint64_t kStep = 1;
#endif
  const std::vector<Set> sets = supported_sets();
  for (std::uint64_t run = 0; run < (std::uint64_t{1} << 32) / kRun; run += kStep) {
    expect_split_is_lossless(sets.back(), static_cast<std::uint32_t>(run * kRun), kRun);
    if (run % 41 == 0) {
      for (const Set& set : sets)
        expect_split_is_lossless(set, static_cast<std::uint32_t>(run * kRun), kRun - 3);
    }
    if (HasFatalFailure()) return;
  }
}

TEST(SimdTest, StochasticRoundingIsExactOnAverageAndKeyedByPlace) {
  constexpr std::int64_t kCount = 200'000;
  const float value = 1.0f + 0.3f / 128;  // 0.3 of the way from one bf16 to the next
  const Values same(kCount, value);
  for (const Set& set : supported_sets()) {
    std::vector<bf16_bits> all(kCount), part(1000), other(kCount);
    set.floats->narrow_stochastic(same.data(), all.data(), kCount, 7, 11);
    double sum = 0;
    for (const bf16_bits bits : all) sum += std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    EXPECT_NEAR(sum / kCount, static_cast<double>(value),
                4 * 0.46 / 128 / std::sqrt(static_cast<double>(kCount)));
    set.floats->narrow_stochastic(same.data(), part.data(), 1000, 7 + 501, 11);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + 501)) << set.name;
    set.floats->narrow_stochastic(same.data(), other.data(), kCount, 7, 12);
    EXPECT_NE(all, other);
    baseline::kFloatKernels.narrow_stochastic(same.data(), other.data(), kCount, 7, 11);
    EXPECT_EQ(all, other) << set.name;
    const Values special = {0.0f, -0.0f, INFINITY, -INFINITY, 1.5f};
    set.floats->narrow_stochastic(special.data(), part.data(), 5, 0, 1);
    for (std::size_t i = 0; i < special.size(); ++i) {
      EXPECT_EQ(static_cast<std::uint32_t>(part[i]) << 16, std::bit_cast<std::uint32_t>(special[i]));
    }
  }
}

// The sets with fused multiply-add give each other's bits; the baseline is close.
template <typename T>
Values activations(const ActivationKernels<T>& kernels, const FloatKernels& floats, std::size_t count) {
  const auto n = static_cast<std::int64_t>(count);
  const auto narrowed = [&](const Values& values) {
    std::vector<T> result(values.size());
    kernels.narrow(values.data(), result.data(), static_cast<std::int64_t>(values.size()));
    return result;
  };
  const std::vector<T> x = narrowed(random_values(count, 7)), w = narrowed(random_values(count, 8)),
                       d = narrowed(random_values(count, 9));
  Values results;
  const auto keep = [&](const std::vector<T>& values) {
    Values wide(values.size());
    kernels.widen(values.data(), wide.data(), static_cast<std::int64_t>(values.size()));
    results.insert(results.end(), wide.begin(), wide.end());
  };
  std::vector<T> y(count), z(count);
  const float rstd = kernels.rms_norm(x.data(), w.data(), y.data(), n, 1e-5f);
  results.push_back(rstd);
  keep(y);
  kernels.rms_norm_again(x.data(), w.data(), z.data(), n, rstd);
  EXPECT_TRUE(y == z) << "rms_norm_again";
  Values dweight(count, 0.5f);
  kernels.rms_norm_backward(x.data(), w.data(), d.data(), rstd, y.data(), dweight.data(), n);
  keep(y);
  results.insert(results.end(), dweight.begin(), dweight.end());
  Values statistics(2), dbias(count, 0.25f);
  kernels.layer_norm(x.data(), w.data(), d.data(), y.data(), n, 1e-5f, &statistics[0], &statistics[1]);
  keep(y);
  kernels.layer_norm_again(x.data(), w.data(), d.data(), z.data(), n, statistics[0], statistics[1]);
  EXPECT_TRUE(y == z) << "layer_norm_again";
  kernels.layer_norm_backward(x.data(), w.data(), d.data(), statistics[0], statistics[1], y.data(),
                              dweight.data(), dbias.data(), n);
  keep(y);
  results.insert(results.end(), dweight.begin(), dweight.end());
  results.insert(results.end(), dbias.begin(), dbias.end());
  kernels.relu(y.data(), n);
  keep(y);
  z = d;
  kernels.relu_backward(y.data(), z.data(), n);
  keep(z);
  kernels.swiglu(x.data(), w.data(), y.data(), n);
  keep(y);
  kernels.swiglu_backward(x.data(), w.data(), d.data(), y.data(), z.data(), n);
  keep(y);
  keep(z);
  kernels.add(x.data(), z.data(), n);
  keep(z);
  Values scores = random_values(count, 10, -6, 6), dscores = random_values(count, 11);
  results.push_back(floats.dot(scores.data(), dscores.data(), n));
  results.push_back(floats.maximum(scores.data(), n));
  Values exponentials = scores;
  const float sum = floats.exp_and_sum(exponentials.data(), n, 0.5f, 3.0f);
  results.push_back(sum / static_cast<float>(n));
  results.insert(results.end(), exponentials.begin(), exponentials.end());
  floats.attention_backward(scores.data(), dscores.data(), n, 0.5f, 3.0f, 1.0f / sum);
  results.insert(results.end(), dscores.begin(), dscores.end());
  return results;
}

TEST(SimdTest, ActivationKernelsAgree) {
  for (const std::size_t count : kCounts) {
    const std::vector<Set> sets = supported_sets();
    const Set& first_fused = sets.size() > 1 ? sets[1] : sets[0];
    const Values base32 = activations(baseline::kFp32Kernels, baseline::kFloatKernels, count);
    const Values fused32 = activations(*first_fused.fp32, *first_fused.floats, count);
    const Values fused16 = activations(*first_fused.bf16, *first_fused.floats, count);
    for (const Set& set : sets) {
      const Values actual = activations(*set.fp32, *set.floats, count);
      expect_agrees(set, base32, actual, false, "fp32 beside the baseline");
      if (!set.fused) continue;
      expect_agrees(set, fused32, actual, true, "fp32");
      expect_agrees(set, fused16, activations(*set.bf16, *set.floats, count), true, "bf16");
    }
  }
}

TEST(SimdTest, ExponentialIsExactToSevenDigitsAndSaturates) {
  Values x;
  for (int i = -8700; i <= 8800; ++i) x.push_back(static_cast<float>(i) * 0.01f);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const Set& set : supported_sets()) {
    Values y = x;
    set.floats->exp_and_sum(y.data(), static_cast<std::int64_t>(y.size()), 1, 0);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exact = std::exp(static_cast<double>(x[i]));
      ASSERT_NEAR(y[i], exact, 3e-7 * exact) << set.name << ", exp(" << x[i] << ")";
    }
    Values extreme{-kInfinity, -1e4f, 1e4f, kInfinity, NAN};
    set.floats->exp_and_sum(extreme.data(), 5, 1, 0);
    EXPECT_EQ(extreme[0], 0);
    EXPECT_EQ(extreme[1], 0);
    EXPECT_EQ(extreme[2], kInfinity);
    EXPECT_EQ(extreme[3], kInfinity);
    EXPECT_TRUE(std::isnan(extreme[4])) << set.name;
  }
}

// The bits of a bf16 nearest to a float, by exact arithmetic.
struct Rounding {
  float value;
  bf16_bits away;  // halves away from zero: weights
  bf16_bits even;  // halves to even: activations
};

TEST(SimdTest, RoundsWeightsAwayFromZeroAndActivationsToEven) {
  const auto from = [](std::uint32_t bits) { return std::bit_cast<float>(bits); };
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const Rounding cases[] = {
      {0.0f, 0x0000, 0x0000},
      {-0.0f, 0x8000, 0x8000},
      {1.0f, 0x3F80, 0x3F80},
      {from(0x3F807FFF), 0x3F80, 0x3F80},
      {from(0x3F808000), 0x3F81, 0x3F80},  // halfway above an even one
      {from(0x3F808001), 0x3F81, 0x3F81},
      {from(0x3F818000), 0x3F82, 0x3F82},  // halfway above an odd one
      {from(0xBF808000), 0xBF81, 0xBF80},
      {from(0xBF807FFF), 0xBF80, 0xBF80},
      {from(0x00008000), 0x0001, 0x0000},  // subnormal
      {from(0x00000001), 0x0000, 0x0000},
      {from(0x80000001), 0x8000, 0x8000},
      {from(0x3FFFFFFF), 0x4000, 0x4000},  // carries into the exponent
      {from(0x7F7FFFFF), 0x7F80, 0x7F80},  // the largest float becomes infinity
      {from(0xFF7FFFFF), 0xFF80, 0xFF80},
      {kInfinity, 0x7F80, 0x7F80},
      {-kInfinity, 0xFF80, 0xFF80},
  };
  for (const Set& set : supported_sets()) {
    for (const Rounding& c : cases) {
      // As a whole vector, in which one value stands among others, and alone.
      for (const std::size_t count : {std::size_t{1}, std::size_t{40}}) {
        Values values(count, 0.5f);
        values[count / 3] = c.value;
        std::vector<bf16_bits> bits(count);
        set.floats->round_weights(values.data(), bits.data(), static_cast<std::int64_t>(count));
        EXPECT_EQ(bits[count / 3], c.away) << set.name << ", " << c.value;
        set.bf16->narrow(values.data(), bits.data(), static_cast<std::int64_t>(count));
        EXPECT_EQ(bits[count / 3], c.even) << set.name << ", " << c.value;
      }
    }
    for (const std::uint32_t nan : {0x7FC00000u, 0xFFC00000u, 0x7F800001u, 0x7FFFFFFFu, 0xFFFFFFFFu}) {
      const float value = from(nan);
      const auto quiet = static_cast<bf16_bits>((nan >> 16 & 0x8000) | 0x7FC0);
      bf16_bits rounded = 0, narrowed = 0, noisy = 0;
      set.floats->round_weights(&value, &rounded, 1);
      set.bf16->narrow(&value, &narrowed, 1);
      set.floats->narrow_stochastic(&value, &noisy, 1, 0, 1);
      EXPECT_EQ(rounded, quiet) << set.name;
      EXPECT_EQ(narrowed, quiet) << set.name;
      EXPECT_EQ(noisy, quiet) << set.name;
    }
  }
}

}  // namespace
}  // namespace autoglm::simd
