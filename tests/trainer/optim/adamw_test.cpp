// AdamW beside LibTorch's, the gradient norm, and clipping.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "trainer/optim/adamw.h"

namespace autoglm {
namespace {

AdamWSlice slice_of(const at::Tensor& master, const at::Tensor& m1, const at::Tensor& m2, const at::Tensor& gradient,
                    std::int64_t offset, std::int64_t count) {
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
