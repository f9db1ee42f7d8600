// Norms, linear layers, SwiGLU, rotary embedding and residual connections against plain formulas.
#include "trainer/ops/linear.h"
#include "tests/trainer/ops/reference.h"
#include "trainer/ops/embedding.h"
#include "trainer/ops/residual.h"
#include "trainer/ops/rotary.h"

namespace autoglm {
namespace {

using reference::compare;
using reference::random_tensor;
using reference::Tensors;
using reference::TestParameter;

// Extents that are no multiples of a vector's width, that are, and that are smaller than one.
const std::int64_t kWidths[] = {3, 16, 37, 129};

class OpsTest : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  OpsTest() { at::manual_seed(5); }
  at::ScalarType type() const { return GetParam(); }
};

TEST_P(OpsTest, RmsNorm) {
  for (const std::int64_t width : kWidths) {
    TestParameter weight("weight", {width}, type(), 1);
    const ops::Norm norm{ops::NormKind::rms, &weight.handle, 1e-5};
    compare(
        {random_tensor({2, 9, width}, type())}, {&weight},
        [&](const Tensors& in) { return ops::normalize(in[0], norm); },
        [](const Tensors& in, const Tensors& w) { return reference::rms_norm(in[0], w[0], 1e-5); });
  }
}

TEST_P(OpsTest, LayerNorm) {
  for (const std::int64_t width : kWidths) {
    // A mean that is large beside the deviation.
    for (const double offset : {0.0, 8.0}) {
      TestParameter weight("weight", {width}, type(), 1), bias("bias", {width}, type());
      const ops::Norm norm{ops::NormKind::layer, &weight.handle, 1e-5, &bias.handle};
      compare(
          {random_tensor({2, 9, width}, type()) + offset}, {&weight, &bias},
          [&](const Tensors& in) { return ops::normalize(in[0], norm); },
          [](const Tensors& in, const Tensors& w) { return reference::layer_norm(in[0], w[0], w[1], 1e-5); });
    }
  }
}

TEST_P(OpsTest, LayerNormWithFrozenParts) {
  for (const bool frozen_weight : {true, false}) {
    TestParameter weight("weight", {37}, type(), 1), bias("bias", {37}, type());
    TestParameter& frozen = frozen_weight ? weight : bias;
    frozen.handle.set_trainable(false);
    frozen.handle.bind_gradient({});
    const ops::Norm norm{ops::NormKind::layer, &weight.handle, 1e-5, &bias.handle};
    const at::Tensor fixed = frozen.handle.weight().to(at::kDouble);
    compare(
        {random_tensor({5, 37}, type())}, {frozen_weight ? &bias : &weight},
        [&](const Tensors& in) { return ops::normalize(in[0], norm); },
        [&](const Tensors& in, const Tensors& w) {
          return reference::layer_norm(in[0], frozen_weight ? fixed : w[0], frozen_weight ? w[0] : fixed,
                                       1e-5);
        });
  }
}

TEST_P(OpsTest, NoNormHandsEverythingOn) {
  TestParameter a("a", {33, 20}, type()), b("b", {16, 20}, type());
  const std::vector<ops::Projection> projections{{&a.handle, nullptr}, {&b.handle, nullptr}};
  for (const bool keep : {true, false}) {
    at::manual_seed(3);
    compare(
        {random_tensor({2, 7, 20}, type())}, {},
        [&](const Tensors& in) {
          return at::cat(ops::norm_linear({in[0]}, {}, projections, keep).outputs, -1);
        },
        [&](const Tensors& in, const Tensors&) {
          return at::matmul(in[0], at::cat({a.handle.weight(), b.handle.weight()}).to(at::kDouble).t());
        });
  }
}

TEST_P(OpsTest, Linear) {
  for (const std::int64_t in_width : kWidths) {
    for (const std::int64_t out_width : {1, 24, 67}) {
      for (const bool has_bias : {false, true}) {
        TestParameter weight("weight", {out_width, in_width}, type());
        TestParameter bias("bias", {out_width}, type());
        const ops::Projection projection{&weight.handle, has_bias ? &bias.handle : nullptr};
        std::vector<TestParameter*> parameters{&weight};
        if (has_bias) parameters.push_back(&bias);
        compare(
            {random_tensor({3, 5, in_width}, type())}, parameters,
            [&](const Tensors& in) { return ops::linear(in[0], projection); },
            [&](const Tensors& in, const Tensors& w) {
              const at::Tensor y = at::matmul(in[0], w[0].t());
              return has_bias ? y + w[1] : y;
            });
      }
    }
  }
}

// More rows and more outputs than one tile of a bf16 product.
TEST_P(OpsTest, LinearOverSeveralTiles) {
  TestParameter weight("weight", {2100, 8}, type());
  const ops::Projection projection{&weight.handle, nullptr};
  compare(
      {random_tensor({2075, 8}, type())}, {&weight},
      [&](const Tensors& in) { return ops::linear(in[0], projection); },
      [](const Tensors& in, const Tensors& w) { return at::matmul(in[0], w[0].t()); });
}

// Three projections of one norm, with and without bias. What is rebuilt in the backward keeps every bit.
TEST_P(OpsTest, NormLinear) {
  for (const std::int64_t width : kWidths) {
    Tensors kept;
    for (const bool keep : {true, false}) {
      at::manual_seed(width);
      TestParameter norm_weight("norm", {width}, type(), 1);
      TestParameter a("a", {33, width}, type()), b("b", {16, width}, type()), c("c", {5, width}, type());
      TestParameter bias("bias", {16}, type());
      const ops::Norm norm{ops::NormKind::rms, &norm_weight.handle, 1e-6};
      const std::vector<ops::Projection> projections{
          {&a.handle, nullptr}, {&b.handle, &bias.handle}, {&c.handle, nullptr}};
      Tensors results = compare(
          {random_tensor({2, 7, width}, type())}, {&norm_weight, &a, &b, &c, &bias},
          [&](const Tensors& in) {
            return at::cat(ops::norm_linear({in[0]}, norm, projections, keep).outputs, -1);
          },
          [](const Tensors& in, const Tensors& w) {
            const at::Tensor y = reference::rms_norm(in[0], w[0], 1e-6);
            return at::cat({at::matmul(y, w[1].t()), at::matmul(y, w[2].t()) + w[4], at::matmul(y, w[3].t())},
                           -1);
          });
      for (const TestParameter* p : {&norm_weight, &a, &b, &c, &bias})
        results.push_back(p->handle.gradient());
      if (keep) kept = results;
      for (std::size_t i = 0; i < results.size(); ++i)
        EXPECT_TRUE(reference::same_bits(results[i], kept[i])) << i;
    }
  }
}

TEST_P(OpsTest, LayerNormLinear) {
  for (const std::int64_t width : kWidths) {
    Tensors kept;
    for (const bool keep : {true, false}) {
      at::manual_seed(width);
      TestParameter norm_weight("norm", {width}, type(), 1), norm_bias("norm bias", {width}, type());
      TestParameter a("a", {33, width}, type()), bias("bias", {33}, type());
      const ops::Norm norm{ops::NormKind::layer, &norm_weight.handle, 1e-5, &norm_bias.handle};
      const ops::Projection projection{&a.handle, &bias.handle};
      Tensors results = compare(
          {random_tensor({2, 7, width}, type())}, {&norm_weight, &norm_bias, &a, &bias},
          [&](const Tensors& in) {
            return ops::norm_linear({in[0]}, norm, {&projection, 1}, keep).outputs[0];
          },
          [](const Tensors& in, const Tensors& w) {
            return at::matmul(reference::layer_norm(in[0], w[0], w[1], 1e-5), w[2].t()) + w[3];
          });
      for (const TestParameter* p : {&norm_weight, &norm_bias, &a, &bias})
        results.push_back(p->handle.gradient());
      if (keep) kept = results;
      for (std::size_t i = 0; i < results.size(); ++i)
        EXPECT_TRUE(reference::same_bits(results[i], kept[i])) << i;
    }
  }
}

// The input is a sum that nothing else reads: it may be overwritten.
TEST_P(OpsTest, ReluLinear) {
  for (const std::int64_t width : kWidths) {
    TestParameter up("up", {width, 11}, type()), down("down", {19, width}, type()),
        bias("bias", {19}, type());
    const ops::Projection first{&up.handle, nullptr}, second{&down.handle, &bias.handle};
    compare(
        {random_tensor({2, 6, 11}, type())}, {&up, &down, &bias},
        [&](const Tensors& in) { return ops::relu_linear(ops::linear(in[0], first), second); },
        [&](const Tensors& in, const Tensors& w) {
          // Rounded where ours is, so that a value near 0 falls to the same side.
          const at::Tensor sum = at::matmul(in[0], w[0].t());
          const at::Tensor rounded = sum.detach().to(at::kFloat).to(type()).to(at::kDouble);
          return at::matmul(at::relu(sum + (rounded - sum.detach())), w[1].t()) + w[2];
        });
  }
}

// Gate and up in one tensor or in two.
TEST_P(OpsTest, SwigluLinear) {
  for (const std::int64_t width : kWidths) {
    for (const bool fused : {false, true}) {
      Tensors kept;
      for (const bool keep : {true, false}) {
        at::manual_seed(width);
        TestParameter down("down", {19, width}, type()), bias("bias", {19}, type());
        const ops::Projection projection{&down.handle, &bias.handle};
        const at::Tensor first = random_tensor({2, 6, fused ? 2 * width : width}, type()) * 3;
        const Tensors inputs = fused ? Tensors{first} : Tensors{first, random_tensor({2, 6, width}, type())};
        Tensors results = compare(
            inputs, {&down, &bias},
            [&](const Tensors& in) { return ops::swiglu_linear(in, projection, keep); },
            [&](const Tensors& in, const Tensors& w) {
              const at::Tensor gate = fused ? in[0].narrow(-1, 0, width) : in[0];
              const at::Tensor up = fused ? in[0].narrow(-1, width, width) : in[1];
              return at::matmul(gate * at::sigmoid(gate) * up, w[0].t()) + w[1];
            });
        results.push_back(down.handle.gradient());
        if (keep) kept = results;
        for (std::size_t i = 0; i < results.size(); ++i)
          EXPECT_TRUE(reference::same_bits(results[i], kept[i])) << i;
      }
    }
  }
}

TEST_P(OpsTest, FrozenWeightsGetNothingAndTheInputStillItsGradient) {
  TestParameter norm_weight("norm", {20}, type(), 1), weight("weight", {12, 20}, type());
  norm_weight.handle.set_trainable(false);
  weight.handle.set_trainable(false);
  norm_weight.handle.bind_gradient({});
  weight.handle.bind_gradient({});
  const std::vector<ops::Projection> projections{{&weight.handle, nullptr}};
  const ops::Norm norm{ops::NormKind::rms, &norm_weight.handle, 1e-6};
  const at::Tensor norm64 = norm_weight.handle.weight().to(at::kDouble),
                   weight64 = weight.handle.weight().to(at::kDouble);
  compare(
      {random_tensor({4, 20}, type())}, {},
      [&](const Tensors& in) { return ops::norm_linear({in[0]}, norm, projections, true).outputs[0]; },
      [&](const Tensors& in, const Tensors&) {
        return at::matmul(reference::rms_norm(in[0], norm64, 1e-6), weight64.t());
      });
}

// Whole and partial, half-split and interleaved, with a factor.
TEST_P(OpsTest, Rotary) {
  for (const std::int64_t pairs : {1, 5, 16}) {
    for (const std::int64_t rest : {0, 6}) {
      for (const bool interleaved : {false, true}) {
        ops::RotarySpec spec;
        for (std::int64_t i = 0; i < pairs; ++i)
          spec.inverse_frequencies.push_back(1.0f / static_cast<float>(1 + i * i));
        spec.interleaved = interleaved;
        spec.attention_factor = 1.25f;
        const ops::RotaryTable table = ops::make_rotary_table(spec, 11, at::kCPU);
        const at::Tensor positions = at::tensor({0, 1, 2, 10, 0, 7}, at::kInt);
        const at::Tensor frequencies =
            at::tensor(at::ArrayRef<float>(spec.inverse_frequencies), at::kFloat).to(at::kDouble);
        const at::Tensor angle =
            (positions.to(at::kDouble).unsqueeze(1) * frequencies).view({2, 3, 1, pairs});
        const at::Tensor cosine = at::cos(angle) * 1.25, sine = at::sin(angle) * 1.25;
        compare(
            {random_tensor({2, 3, 4, 2 * pairs + rest}, type())}, {},
            [&](const Tensors& in) { return ops::rotary(in[0], positions, table); },
            [&](const Tensors& in, const Tensors&) {
              const at::Tensor rotated = in[0].narrow(-1, 0, 2 * pairs);
              const at::Tensor two = interleaved ? rotated.reshape({2, 3, 4, pairs, 2})
                                                 : rotated.reshape({2, 3, 4, 2, pairs}).transpose(-1, -2);
              const at::Tensor a = two.select(-1, 0), b = two.select(-1, 1);
              const at::Tensor turned = at::stack({a * cosine - b * sine, b * cosine + a * sine}, -1);
              const at::Tensor flat = interleaved ? turned.reshape({2, 3, 4, 2 * pairs})
                                                  : turned.transpose(-1, -2).reshape({2, 3, 4, 2 * pairs});
              return at::cat({flat, in[0].narrow(-1, 2 * pairs, rest)}, -1);
            });
      }
    }
  }
}

TEST_P(OpsTest, RotaryRefusesAPositionBeyondItsTable) {
  const ops::RotaryTable table = ops::make_rotary_table(
      {.inverse_frequencies = {1.0f}, .interleaved = false, .attention_factor = 1}, 4, at::kCPU);
  const at::Tensor x = random_tensor({1, 1, 1, 2}, type());
  EXPECT_NO_THROW(ops::rotary(x, at::tensor({3}, at::kInt), table));
  EXPECT_THROW(ops::rotary(x, at::tensor({4}, at::kInt), table), Error);
  EXPECT_THROW(ops::rotary(x, at::tensor({-1}, at::kInt), table), Error);
}

// Repeated ids add up; rows that no id names get nothing.
TEST_P(OpsTest, Embedding) {
  TestParameter table("table", {13, 21}, type());
  const at::Tensor ids = at::tensor({0, 12, 3, 3, 3, 7, 0, 12}, at::kLong).view({2, 4});
  const at::Tensor anchor = at::empty({0}, at::TensorOptions().dtype(type())).requires_grad_(true);
  const at::AutoGradMode mode(true);
  const at::Tensor y = ops::embedding(ids, table.handle, anchor);
  const at::Tensor weight64 = table.handle.weight().to(at::kDouble).clone().requires_grad_(true);
  const at::Tensor expected = at::embedding(weight64, ids);
  reference::expect_near(y.detach(), expected.detach(), 0, "rows");
  const at::Tensor gradient = random_tensor(y.sizes(), type());
  y.backward(gradient);
  expected.backward(gradient.to(at::kDouble));
  reference::expect_near(table.added_gradient(), weight64.grad(), 1e-6, "table");
  EXPECT_THROW(ops::embedding(at::full({1, 1}, 13, at::kLong), table.handle, anchor), Error);
  EXPECT_THROW(ops::embedding(at::full({1, 1}, -1, at::kLong), table.handle, anchor), Error);
}

// A branch joins, with or without a norm of its own; another begins at the norm of the sum, or at the sum, and joins too.
TEST_P(OpsTest, BranchesJoinAndBeginAtNorms) {
  using ops::NormKind;
  for (const NormKind after_kind : {NormKind::none, NormKind::rms, NormKind::layer}) {
    for (const NormKind kind : {NormKind::none, NormKind::rms, NormKind::layer}) {
      Tensors kept;
      for (const bool keep : {true, false}) {
        at::manual_seed(11);
        TestParameter a("after", {37}, type(), 1), c("after bias", {37}, type()), n("norm", {37}, type(), 1),
            b("norm bias", {37}, type()), weight("weight", {37, 37}, type());
        const auto norm_of = [](NormKind which, TestParameter& scale, TestParameter& bias) {
          if (which == NormKind::none) return ops::Norm{};
          return ops::Norm{which, &scale.handle, 1e-5, which == NormKind::layer ? &bias.handle : nullptr};
        };
        const ops::Norm after = norm_of(after_kind, a, c), norm = norm_of(kind, n, b);
        const ops::Projection projection{&weight.handle, nullptr};
        const auto normed = [](NormKind which, const at::Tensor& x, const at::Tensor& w,
                               const at::Tensor& v) {
          if (which == NormKind::none) return x;
          return which == NormKind::rms ? reference::rms_norm(x, w, 1e-5)
                                        : reference::layer_norm(x, w, v, 1e-5);
        };
        std::vector<TestParameter*> parameters{&weight};
        const auto add = [&](NormKind which, TestParameter& scale, TestParameter& bias) {
          const std::size_t first = parameters.size();
          if (which != NormKind::none) parameters.push_back(&scale);
          if (which == NormKind::layer) parameters.push_back(&bias);
          return first;
        };
        const std::size_t of_after = add(after_kind, a, c), of_norm = add(kind, n, b);
        Tensors results = compare(
            {random_tensor({2, 5, 37}, type()), random_tensor({2, 5, 37}, type())}, parameters,
            [&](const Tensors& in) {
              auto [stream, outputs] = ops::norm_linear({in[0], in[1], after}, norm, {&projection, 1}, keep);
              return ops::join({stream, outputs[0], after});
            },
            [&](const Tensors& in, const Tensors& w) {
              const auto at_place = [&](std::size_t i) { return i < w.size() ? w[i] : at::Tensor(); };
              const auto joins = [&](const at::Tensor& stream, const at::Tensor& branch) {
                return stream + normed(after_kind, branch, at_place(of_after), at_place(of_after + 1));
              };
              const at::Tensor sum = joins(in[0], in[1]);
              return joins(sum,
                           at::matmul(normed(kind, sum, at_place(of_norm), at_place(of_norm + 1)), w[0].t()));
            });
        for (const TestParameter* p : parameters) results.push_back(p->handle.gradient());
        if (keep) kept = results;
        for (std::size_t i = 0; i < results.size(); ++i)
          EXPECT_TRUE(reference::same_bits(results[i], kept[i])) << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, OpsTest, ::testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return info.param == at::kFloat ? "fp32" : "bf16"; });

}  // namespace
}  // namespace autoglm
