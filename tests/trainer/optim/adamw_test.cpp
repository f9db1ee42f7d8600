// AdamW beside LibTorch's, the gradient norm, and clipping.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "trainer/optim/adamw.h"
#include "trainer/simd/kernels.h"

namespace autoglm {
namespace {

AdamWSlice slice_of(const at::Tensor& master, const at::Tensor& m1, const at::Tensor& m2,
                    const at::Tensor& gradient, std::int64_t offset, std::int64_t count) {
  AdamWSlice slice;
  slice.count = count;
  slice.master = master.mutable_data_ptr<float>() + offset;
  slice.moment1 = m1.mutable_data_ptr<float>() + offset;
  slice.moment2 = m2.mutable_data_ptr<float>() + offset;
  slice.gradient = gradient.const_data_ptr<float>() + offset;
  slice.bf16_working = false;
  return slice;
}

// fp32 throughout.
void update(const at::Tensor& master, const at::Tensor& m1, const at::Tensor& m2, const at::Tensor& gradient,
            std::int64_t offset, std::int64_t count, const AdamWFactors& factors, bool first) {
  adamw(slice_of(master, m1, m2, gradient, offset, count), {factors, first, 0});
}

TEST(AdamWTest, EqualsTorchStepByStep) {
  at::manual_seed(1);
  constexpr std::int64_t kCount = 3001;
  for (const double weight_decay : {0.0, 0.1}) {
    const AdamWSettings settings{0.9, 0.95, 1e-8, weight_decay};
    at::Tensor master = at::randn({kCount}), torch_master = master.clone();
    // What the moments hold before the first step does not matter.
    at::Tensor m1 = at::full({kCount}, NAN), m2 = at::full({kCount}, NAN);
    at::Tensor torch_m1 = at::zeros({kCount}), torch_m2 = at::zeros({kCount}), torch_step = at::zeros({});
    const at::Tensor start = master.clone();
    for (std::int64_t step = 1; step <= 30; ++step) {
      const at::Tensor gradient = at::randn({kCount}) * 0.1;
      const double rate = 1e-3 * static_cast<double>(step);
      update(master, m1, m2, gradient, 0, kCount, adamw_factors(settings, rate, step, 1, true), step == 1);
      torch_step += 1;
      at::_fused_adamw_({torch_master}, {gradient}, {torch_m1}, {torch_m2}, {}, {torch_step}, rate,
                        settings.beta1, settings.beta2, weight_decay, settings.epsilon, false, false);
      const double moved = (torch_master - start).abs().max().item<double>();
      EXPECT_LT((master - torch_master).abs().max().item<double>(), 1e-6 * (1 + moved)) << "step " << step;
      EXPECT_LT((m1 - torch_m1).abs().max().item<double>(), 1e-6 * torch_m1.abs().max().item<double>());
      EXPECT_LT((m2 - torch_m2).abs().max().item<double>(), 1e-6 * torch_m2.abs().max().item<double>());
    }
    EXPECT_GT((master - start).abs().max().item<double>(), 0.1);
  }
}

TEST(AdamWTest, DecaysOnlyWhatDecaysAndScalesGradients) {
  const AdamWSettings settings{0.9, 0.95, 1e-8, 0.5};
  const auto one_step = [&](bool decays, double scale, float gradient) {
    at::Tensor master = at::full({3}, 2.0f), m1 = at::zeros({3}), m2 = at::zeros({3});
    update(master, m1, m2, at::full({3}, gradient), 0, 3, adamw_factors(settings, 0.01, 1, scale, decays),
           false);
    return std::pair(master[0].item<float>(), m1[0].item<float>());
  };
  // The first step moves by the learning rate, whatever the gradient.
  EXPECT_NEAR(one_step(false, 1, 0.3f).first, 2 - 0.01, 1e-6);
  EXPECT_NEAR(one_step(true, 1, 0.3f).first, 2 * (1 - 0.01 * 0.5) - 0.01, 1e-6);
  EXPECT_NEAR(one_step(false, 0.5, 0.3f).second, 0.1 * 0.15, 1e-7);
  EXPECT_EQ(one_step(false, 1, 0).first, 2.0f);
}

TEST(AdamWTest, TouchesItsRangeOnly) {
  at::manual_seed(2);
  at::Tensor master = at::randn({100}), m1 = at::zeros({100}), m2 = at::zeros({100});
  const at::Tensor before = master.clone(), gradient = at::randn({100});
  update(master, m1, m2, gradient, 30, 41, adamw_factors({}, 0.01, 1, 1, true), false);
  const at::Tensor changed = master.ne(before);
  EXPECT_EQ(changed.sum().item<std::int64_t>(), 41);
  EXPECT_EQ(changed.narrow(0, 30, 41).sum().item<std::int64_t>(), 41);
}

// Plain and split masters give the same weights and moments to the bit, wherever ranges are cut.
TEST(AdamWTest, SplitMastersGiveTheBitsOfPlainOnes) {
  at::manual_seed(4);
  constexpr std::int64_t kCount = 5003;
  const at::Tensor start = at::randn({kCount}) * 0.02;
  at::Tensor master = start.clone(), m1 = at::empty({kCount}), m2 = at::empty({kCount});
  at::Tensor working = at::empty({kCount}, at::kBFloat16), split_working = at::empty({kCount}, at::kBFloat16);
  at::Tensor remainder = at::empty({kCount}, at::kShort), joined = at::empty({kCount});
  at::Tensor n1 = at::empty({kCount}), n2 = at::empty({kCount});
  using simd::bf16_bits;
  auto* upper = static_cast<bf16_bits*>(split_working.mutable_data_ptr());
  auto* lower = remainder.mutable_data_ptr<std::int16_t>();
  simd::float_kernels().split_master(start.const_data_ptr<float>(), upper, lower, kCount);
  for (std::int64_t step = 1; step <= 20; ++step) {
    const at::Tensor gradient = at::randn({kCount});
    const AdamWUpdate update{adamw_factors({}, 1e-3, step, 0.7, true), step == 1, 0};
    AdamWSlice plain = slice_of(master, m1, m2, gradient, 0, kCount);
    plain.working = working.mutable_data_ptr();
    plain.bf16_working = true;
    adamw(plain, update);
    for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, 1301}, {1301, kCount}}) {
      AdamWSlice split = slice_of(master, n1, n2, gradient, begin, end - begin);
      split.master = nullptr;
      split.remainder = lower + begin;
      split.working = upper + begin;
      split.bf16_working = true;
      adamw(split, update);
    }
  }
  simd::float_kernels().join_master(upper, lower, joined.mutable_data_ptr<float>(), kCount);
  EXPECT_TRUE(joined.equal(master));
  EXPECT_TRUE(split_working.equal(working));
  EXPECT_TRUE(n1.equal(m1));
  EXPECT_TRUE(n2.equal(m2));
  EXPECT_FALSE(master.equal(start));
}

// bf16 gradients and moments: close to fp32, and the same bits however the range is cut.
TEST(AdamWTest, NarrowStatesStayClose) {
  at::manual_seed(5);
  constexpr std::int64_t kCount = 4099;
  const at::Tensor start = at::randn({kCount});
  at::Tensor exact = start.clone(), m1 = at::empty({kCount}), m2 = at::empty({kCount});
  at::Tensor narrow = start.clone(), n1 = at::empty({kCount}, at::kBFloat16),
             n2 = at::empty({kCount}, at::kBFloat16);
  at::Tensor cut = start.clone(), c1 = at::empty({kCount}, at::kBFloat16),
             c2 = at::empty({kCount}, at::kBFloat16);
  const auto run = [](const at::Tensor& master, const at::Tensor& first, const at::Tensor& second,
                      const at::Tensor& gradient, std::int64_t begin, std::int64_t end, AdamWUpdate update) {
    AdamWSlice slice;
    slice.count = end - begin;
    slice.master = master.mutable_data_ptr<float>() + begin;
    slice.moment1 = static_cast<char*>(first.mutable_data_ptr()) + begin * 2;
    slice.moment2 = static_cast<char*>(second.mutable_data_ptr()) + begin * 2;
    slice.gradient = static_cast<const char*>(gradient.const_data_ptr()) + begin * 2;
    slice.bf16_working = false;
    slice.bf16_moments = slice.bf16_gradient = true;
    slice.first_element = static_cast<std::uint64_t>(1000 + begin);
    adamw(slice, update);
  };
  for (std::int64_t step = 1; step <= 40; ++step) {
    const at::Tensor gradient = (start + 0.1 * at::randn({kCount})).to(at::kBFloat16);
    const AdamWUpdate update{adamw_factors({}, 1e-3, step, 1, true), step == 1, adamw_noise_key(42, step)};
    adamw(slice_of(exact, m1, m2, gradient.to(at::kFloat), 0, kCount), update);
    run(narrow, n1, n2, gradient, 0, kCount, update);
    run(cut, c1, c2, gradient, 0, 1025, update);
    run(cut, c1, c2, gradient, 1025, kCount, update);
  }
  EXPECT_TRUE(narrow.equal(cut) && n1.equal(c1) && n2.equal(c2));
  EXPECT_FALSE(narrow.equal(exact));
  const double moved = (exact - start).norm().item<double>();
  EXPECT_LT((narrow - exact).norm().item<double>(), 0.02 * moved);
}

// The function that a CUDA thread runs gives the bits of the CPU's loops, in every form that states have: for single
// elements, and for runs of them, where those can begin.
TEST(AdamWTest, ThreadsOfCudaGiveTheSameBits) {
  constexpr std::int64_t kCount = 3001;
  for (int form = 0; form < 16; ++form) {
    const bool split = (form & 1) != 0, bf16_moments = (form & 2) != 0, bf16_gradient = (form & 4) != 0;
    const bool bf16_working = split || (form & 8) != 0;
    struct State {
      at::Tensor master, working, remainder, moment1, moment2;
    };
    const auto make = [&] {
      at::manual_seed(6);
      State state;
      state.master = at::randn({kCount});
      state.working = at::zeros({kCount}, bf16_working ? at::kBFloat16 : at::kFloat);
      state.remainder = at::zeros({kCount}, at::kShort);
      if (split) {
        simd::float_kernels().split_master(state.master.const_data_ptr<float>(),
                                           static_cast<simd::bf16_bits*>(state.working.mutable_data_ptr()),
                                           state.remainder.mutable_data_ptr<std::int16_t>(), kCount);
      }
      state.moment1 = at::empty({kCount}, bf16_moments ? at::kBFloat16 : at::kFloat);
      state.moment2 = at::empty({kCount}, bf16_moments ? at::kBFloat16 : at::kFloat);
      return state;
    };
    State loops = make(), single = make();
    for (std::int64_t step = 1; step <= 5; ++step) {
      const at::Tensor gradient = at::randn({kCount}).to(bf16_gradient ? at::kBFloat16 : at::kFloat);
      const AdamWUpdate update{adamw_factors({0.9, 0.95, 1e-8, 0.1}, 1e-2, step, 0.5, true), step == 1,
                               adamw_noise_key(3, step)};
      const auto slice_for = [&](const State& state) {
        AdamWSlice slice;
        slice.count = kCount;
        if (split) {
          slice.remainder = state.remainder.mutable_data_ptr<std::int16_t>();
        } else {
          slice.master = state.master.mutable_data_ptr<float>();
        }
        slice.working = state.working.mutable_data_ptr();
        slice.moment1 = state.moment1.mutable_data_ptr();
        slice.moment2 = state.moment2.mutable_data_ptr();
        slice.gradient = gradient.const_data_ptr();
        slice.bf16_working = bf16_working;
        slice.bf16_moments = bf16_moments;
        slice.bf16_gradient = bf16_gradient;
        slice.first_element = 12345;
        return slice;
      };
      adamw(slice_for(loops), update);
      const AdamWSlice slice = slice_for(single);
      ASSERT_TRUE(hold_adamw_runs(slice));
      std::int64_t i = 0;
      for (; i < 100; ++i) adamw_slice_elements<1>(slice, update, i);
      for (; i + kAdamWRun <= kCount; i += kAdamWRun) adamw_slice_elements<kAdamWRun>(slice, update, i);
      for (; i < kCount; ++i) adamw_slice_elements<1>(slice, update, i);
    }
    const auto same = [](const at::Tensor& a, const at::Tensor& b) {
      return std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
    };
    EXPECT_TRUE(same(loops.working, single.working) && same(loops.remainder, single.remainder) &&
                same(loops.moment1, single.moment1) && same(loops.moment2, single.moment2) &&
                (split || same(loops.master, single.master)))
        << "form " << form;
  }
}

TEST(AdamWTest, RunsBeginWhereAllPointersAllowIt) {
  alignas(16) char memory[64] = {};
  const auto at = [&](int offset) { return static_cast<void*>(memory + offset); };
  AdamWSlice slice;
  slice.master = static_cast<float*>(at(16));
  slice.working = at(8);
  slice.moment1 = slice.moment2 = at(32);
  slice.gradient = at(48);
  EXPECT_TRUE(hold_adamw_runs(slice));
  AdamWSlice wide_working = slice;
  wide_working.bf16_working = false;
  EXPECT_FALSE(hold_adamw_runs(wide_working));
  for (void* AdamWSlice::*moment : {&AdamWSlice::moment1, &AdamWSlice::moment2}) {
    AdamWSlice off = slice;
    off.*moment = at(40);
    EXPECT_FALSE(hold_adamw_runs(off));
    off.bf16_moments = true;
    EXPECT_TRUE(hold_adamw_runs(off));
    off.*moment = at(42);
    EXPECT_FALSE(hold_adamw_runs(off));
  }
  slice.gradient = at(44);
  EXPECT_FALSE(hold_adamw_runs(slice));
}

TEST(AdamWTest, SumsSquaresOfAnySize) {
  at::manual_seed(3);
  for (const std::int64_t count : {0, 1, 63, 16384, 16385, 100003}) {
    const at::Tensor x = at::randn({count});
    const double exact = x.to(at::kDouble).pow(2).sum().item<double>();
    double sum = 0;
    for (std::int64_t at = 0; at < count; at += kSquaresPiece) {
      sum += piece_sum_of_squares(x, at, std::min(kSquaresPiece, count - at));
    }
    EXPECT_NEAR(sum, exact, 1e-12 * exact);
  }
}

TEST(AdamWTest, ClipsAsTorchDoes) {
  EXPECT_EQ(clip_factor(0.5, 1.0), 1.0);
  EXPECT_EQ(clip_factor(1.0, 1.0), 1.0 / (1.0 + 1e-6));
  EXPECT_EQ(clip_factor(4.0, 1.0), 1.0 / (4.0 + 1e-6));
  EXPECT_EQ(clip_factor(0.0, 1.0), 1.0);
  EXPECT_EQ(clip_factor(100.0, 0.0), 1.0);
}

}  // namespace
}  // namespace autoglm
