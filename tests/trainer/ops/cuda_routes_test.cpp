// The CUDA routes on host tensors against the CPU routes.
#include "tests/trainer/ops/cuda_routes.h"
#include "trainer/ops/adjoining.h"
#include "trainer/ops/attention_routes.h"
#include "trainer/ops/column_sums_cuda.h"
#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/embedding.h"
#include "trainer/ops/head_cuda.h"
#include "trainer/ops/norm.h"
#include "trainer/ops/projection_cuda.h"
#include "trainer/ops/relu.h"
#include "trainer/ops/rotary_heads.h"
#include "trainer/ops/swiglu.h"

namespace autoglm {
namespace {

using reference::expect_near;
using reference::random_tensor;
using reference::same_bits;
using reference::TestParameter;

TEST_P(CudaRoutes, ReluToTheBit) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  // More than a block, which is not whole vectors, and not where vectors begin.
  for (const auto& [count, offset] : {std::pair<std::int64_t, std::int64_t>{1, 0}, {20011, 0}, {1500, 3}}) {
    at::Tensor x = random_tensor({count}, type());
    x[count / 2] = nan;
    if (count > 1) x[3] = 0;
    at::Tensor y = x.clone(), y_cuda = at::empty({count + offset}, type()).narrow(0, offset, count).copy_(x);
    ops::relu_in_place(y);
    ops::relu_cuda(y_cuda);
    EXPECT_TRUE(same_bits(y, y_cuda));
    EXPECT_TRUE(same_bits(y.nan_to_num(7), at::relu(x).nan_to_num(7)));
    const at::Tensor dy = random_tensor({count}, type());
    at::Tensor dx = dy.clone(), dx_cuda = dy.clone();
    ops::relu_backward_in_place(y, dx);
    ops::relu_backward_cuda(y, dx_cuda);
    EXPECT_TRUE(same_bits(dx, dx_cuda));
    EXPECT_TRUE(same_bits(dx, at::where(at::relu(x) <= 0, at::zeros_like(dy), dy)));
  }
}

TEST_P(CudaRoutes, SwigluAgainstItsFormula) {
  // Single elements, vectors, and vectors of more than one block across.
  for (const auto& [fused, width] :
       {std::pair<bool, std::int64_t>{false, 301}, {true, 301}, {false, 304}, {true, 304}, {true, 4128}}) {
    const std::int64_t rows = 19;
    const at::Tensor both = random_tensor({rows, 2 * width}, type()) * 3;
    const at::Tensor gate = both.narrow(1, 0, width).contiguous(),
                     up = both.narrow(1, width, width).contiguous();
    const std::vector<at::Tensor> in = fused ? std::vector{both} : std::vector{gate, up};
    const at::Tensor dout = random_tensor({rows, width}, type());
    at::Tensor out = at::empty_like(dout);
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& tensor : in) gradients.push_back(at::full_like(tensor, 77));
    ops::swiglu_forward_cuda(in, out);
    ops::swiglu_backward_cuda(in, dout, gradients);
    const at::Tensor g = gate.to(at::kDouble), u = up.to(at::kDouble), d = dout.to(at::kDouble),
                     s = at::sigmoid(g);
    expect_near(out, g * s * u, tolerance(), "out");
    if (!fused) {  // columns of one matrix
      at::Tensor again = at::empty_like(out);
      ops::swiglu_forward_cuda({both.narrow(1, 0, width), both.narrow(1, width, width)}, again);
      EXPECT_TRUE(same_bits(again, out));
    }
    const at::Tensor all = at::cat(gradients, 1);
    expect_near(all.narrow(1, 0, width), d * u * s * (1 + g * (1 - s)), tolerance(), "dgate");
    expect_near(all.narrow(1, width, width), d * g * s, tolerance(), "dup");
  }
}

TEST_P(CudaRoutes, RotaryGivesTheBitsOfTheCpu) {
  // Pairs and what is not rotated of a head: single elements and vectors.
  for (const auto& [pairs, rest] : {std::pair<std::int64_t, std::int64_t>{3, 0}, {3, 6}, {16, 0}, {8, 32}}) {
    for (const bool interleaved : {false, true}) {
      std::vector<float> frequencies;
      for (std::int64_t pair = 0; pair < pairs; ++pair)
        frequencies.push_back(1.0f / (1.0f + static_cast<float>(pair)));
      const ops::RotaryTable table = ops::make_rotary_table(
          {.inverse_frequencies = frequencies, .interleaved = interleaved, .attention_factor = 1.25f}, 11,
          at::kCPU);
      const at::Tensor positions = at::tensor({0, 1, 2, 10, 0, 7}, at::kInt);
      const at::Tensor x = random_tensor({2, 3, 50, 2 * pairs + rest}, type());
      at::Tensor y = at::empty_like(x), back = at::empty_like(x);
      ops::rotary_cuda(x, positions, table, 1, y);
      EXPECT_TRUE(same_bits(y, ops::rotary(x, positions, table))) << pairs << " " << interleaved;
      ops::rotary_cuda(y, positions, table, -1, back);
      expect_near(back.narrow(-1, 0, 2 * pairs), x.narrow(-1, 0, 2 * pairs).to(at::kDouble) * 1.5625,
                  2 * tolerance(), "turned back");
      EXPECT_THROW(ops::rotary_cuda(x, positions + 1, table, 1, y), std::logic_error);
    }
  }
}

// Queries and keys where they lie, and gradients of all three to columns of one matrix.
TEST_P(CudaRoutes, RotaryOfHeadsGivesTheBitsOfTheCpu) {
  for (const auto& [pairs, rest] : {std::pair<std::int64_t, std::int64_t>{3, 6}, {16, 0}, {8, 32}}) {
    const std::int64_t head_dim = 2 * pairs + rest;
    const ops::RotaryTable table = ops::make_rotary_table(
        {.inverse_frequencies = std::vector<float>(static_cast<std::size_t>(pairs), 0.3f),
         .interleaved = true},
        11, at::kCPU);
    const at::Tensor positions = at::tensor({0, 1, 2, 10, 0, 7}, at::kInt);
    const std::vector<at::Tensor> heads{random_tensor({2, 3, 6, head_dim}, type()),
                                        random_tensor({2, 3, 2, head_dim}, type()),
                                        random_tensor({2, 3, 2, head_dim}, type())};
    const std::vector<at::Tensor> turned{heads[0].clone(), heads[1].clone()};
    ops::rotary_heads_cuda(turned, positions, table, 1, turned);
    for (std::size_t i = 0; i < 2; ++i)
      EXPECT_TRUE(same_bits(turned[i], ops::rotary(heads[i], positions, table))) << pairs << " " << i;

    const at::Tensor all = at::full({6, 10 * head_dim}, 77, type());
    const std::vector<at::Tensor> columns{
        all.narrow(1, 0, 6 * head_dim).view({2, 3, 6, head_dim}),
        all.narrow(1, 6 * head_dim, 2 * head_dim).view({2, 3, 2, head_dim}),
        all.narrow(1, 8 * head_dim, 2 * head_dim).view({2, 3, 2, head_dim})};
    ops::rotary_heads_cuda(heads, positions, table, -1, columns);
    for (std::size_t i = 0; i < 2; ++i) {
      at::Tensor back = at::empty_like(heads[i]);
      ops::rotary_cuda(heads[i], positions, table, -1, back);
      EXPECT_TRUE(same_bits(columns[i].contiguous(), back)) << pairs << " " << i;
    }
    EXPECT_TRUE(same_bits(columns[2].contiguous(), heads[2]));
  }
}

// Single elements, vectors, and more of them than a block takes; ids that come once, twice, and more often than are read
// at once.
TEST_P(CudaRoutes, EmbeddingGivesTheBitsOfTheCpu) {
  const at::Tensor some = at::tensor({0, 12, 3, 3, 3, 7, 0, 12}, at::kLong);
  const at::Tensor ids =
      at::cat({some, at::full({83}, 5, at::kLong), some, at::full({1}, 5, at::kLong)}).view({2, 50});
  for (const std::int64_t width : {21, 24, 1100}) {
    TestParameter table("table", {13, width}, type());
    const at::AutoGradMode mode(true);
    const at::Tensor expected = ops::embedding(
        ids, table.handle, at::empty({0}, at::TensorOptions().dtype(type())).requires_grad_(true));
    at::Tensor y = at::empty_like(expected.detach());
    ops::embedding_forward_cuda(ids, table.handle.weight(), y);
    EXPECT_TRUE(same_bits(y, expected.detach()));
    const at::Tensor dy = random_tensor({2, 50, width}, type()), gradient = table.gradient_before.clone();
    expected.backward(dy);
    ops::embedding_backward_cuda(dy, ids, gradient);
    EXPECT_TRUE(same_bits(gradient, table.handle.gradient()));
    EXPECT_THROW(ops::embedding_forward_cuda(at::full({2, 50}, 13, at::kLong), table.handle.weight(), y),
                 std::logic_error);
  }
}

// Sums of 64 rows in their order, then of those: single columns and vectors, of a matrix and of some columns of one.
TEST_P(CudaRoutes, SumsColumnsInTheirOrder) {
  for (const std::int64_t rows : {1, 64, 150}) {
    for (const auto& [width, all_columns] :
         {std::pair<std::int64_t, std::int64_t>{9, 9}, {8, 24}, {2056, 2056}}) {
      const at::Tensor y = random_tensor({rows, all_columns}, type()).narrow(1, all_columns - width, width);
      const at::Tensor gradient = at::randn({width}), added = gradient.clone(),
                       fresh = at::full({width}, 77.0f);
      const at::Tensor values = y.to(at::kFloat);
      at::Tensor sum = at::zeros({width});
      std::vector<at::Tensor> slabs;
      for (std::int64_t row = 0; row < rows; ++row) {
        if (row % 64 == 0) slabs.push_back(at::zeros({width}));
        slabs.back().add_(values[row]);
      }
      ops::add_column_sums_cuda(WorkKind::gradients, y, {added, false});
      ops::add_column_sums_cuda(WorkKind::gradients, y, {fresh, true});
      for (const at::Tensor& slab : slabs) {
        gradient.add_(slab);
        sum.add_(slab);
      }
      EXPECT_TRUE(same_bits(added, gradient)) << rows << " " << width;
      EXPECT_TRUE(same_bits(fresh, sum)) << rows << " " << width;
    }
  }
}

// Three projections of one input, one of them frozen, one with a bias; more rows than a tile of dx.
TEST_P(CudaRoutes, ProjectionsAsOnTheCpu) {
  for (const std::int64_t rows : {5, 2100}) {
    TestParameter a("a", {12, 24}, type()), b("b", {9, 24}, type()), c("c", {6, 24}, type());
    TestParameter bias("bias", {9}, type());
    c.handle.set_trainable(false);
    c.handle.bind_gradient({});
    const std::vector<ops::Projection> projections{
        {&a.handle, nullptr}, {&b.handle, &bias.handle}, {&c.handle, nullptr}};
    const at::Tensor x = random_tensor({rows, 24}, type());
    const std::vector<at::Tensor> expected = ops::project(x, projections);
    std::vector<at::Tensor> dy;
    for (const at::Tensor& output : expected) dy.push_back(random_tensor(output.sizes(), type()));
    const std::vector<at::Tensor> outputs = ops::project_cuda(x, projections);
    for (std::size_t i = 0; i < 3; ++i) expect_near(outputs[i], expected[i], tolerance(), "y");
    const at::Tensor expected_dx = ops::project_backward(dy, x, projections, true);
    std::vector<at::Tensor> gradients;
    for (TestParameter* p : {&a, &b, &bias}) {
      gradients.push_back(p->handle.gradient());
      p->handle.bind_gradient(p->gradient_before.clone());
    }
    at::Tensor dx = at::empty_like(x), unwanted;
    ops::project_backward_cuda(dy, x, projections, dx);
    expect_near(dx, expected_dx, tolerance(), "dx");
    std::size_t next = 0;
    for (TestParameter* p : {&a, &b, &bias})
      expect_near(p->handle.gradient(), gradients[next++], 1e-5, p->handle.name());
    ops::project_backward_cuda(dy, x, projections, unwanted);
    EXPECT_FALSE(unwanted.defined());
  }
}

// Weights side by side, and biases, are one product whose outputs are columns; where one of them is frozen, where it lies
// must not matter.
TEST_P(CudaRoutes, ProjectsByAdjoiningWeightsAtOnce) {
  TestParameter a("a", {12, 24}, type()), b("b", {9, 24}, type());
  TestParameter a_bias("a bias", {12}, type()), b_bias("b bias", {9}, type());
  const std::vector<ops::Projection> biased{{&a.handle, &a_bias.handle}, {&b.handle, &b_bias.handle}},
      plain{{&a.handle, nullptr}, {&b.handle, nullptr}};
  const at::Tensor x = random_tensor({50, 24}, type());
  const auto together = [&](const std::vector<ops::Projection>& projections) {
    const std::vector<at::Tensor> outputs = ops::project_cuda(x, projections),
                                  expected = ops::project(x, projections);
    for (std::size_t i = 0; i < 2; ++i) expect_near(outputs[i], expected[i], tolerance(), "y");
    return ops::joined_columns(outputs).defined();
  };
  EXPECT_FALSE(together(plain));
  const at::Tensor weights = at::cat({a.handle.weight(), b.handle.weight()}),
                   biases = at::cat({a_bias.handle.weight(), b_bias.handle.weight()});
  a.handle.bind_weight(weights.narrow(0, 0, 12));
  b.handle.bind_weight(weights.narrow(0, 12, 9));
  EXPECT_TRUE(together(plain));
  EXPECT_FALSE(together(biased));
  a_bias.handle.bind_weight(biases.narrow(0, 0, 12));
  b_bias.handle.bind_weight(biases.narrow(0, 12, 9));
  EXPECT_TRUE(together(biased));
  b.handle.set_trainable(false);
  EXPECT_FALSE(together(plain));
  a.handle.set_trainable(false);
  EXPECT_TRUE(together(plain));
}

TEST_P(CudaRoutes, AttentionAsOnTheCpu) {
  struct Shape {
    std::int64_t heads, key_heads, head_dim;
    ops::PackedRows rows;
  };
  const Shape shapes[] = {{6, 2, 10, {2, 37, {0, 1, 12, 37, 60}}},
                          {2, 1, 16, {1, 300, {0, 20}}},  // longer than a tile of queries
                          {3, 3, 5, {3, 70, {0, 69, 70, 71, 140}}},
                          {2, 2, 3, {1, 4, {0, 1, 2, 3}}},
                          {6, 2, 10, {2, 37, {0, 1, 12, 37, 60}, false}},
                          {2, 1, 16, {1, 300, {0, 20}, false}}};
  for (const Shape& s : shapes) {
    const auto tensor = [&](std::int64_t heads) {
      return random_tensor({s.rows.batch, s.rows.length, heads, s.head_dim}, type()) * 1.5;
    };
    at::Tensor in[3] = {tensor(s.heads), tensor(s.key_heads), tensor(s.key_heads)};
    const at::Tensor dout = tensor(s.heads);
    const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
    const at::AutoGradMode mode(true);
    for (at::Tensor& leaf : in) leaf.requires_grad_(true);
    const at::Tensor expected = ops::attention(in[0], in[1], in[2], s.rows, scale);
    expected.backward(dout);
    const at::NoGradGuard no_grad;
    const at::Tensor q = in[0].detach(), k = in[1].detach(), v = in[2].detach();
    const ops::AttentionForward forward = ops::attention_forward_cuda(q, k, v, s.rows, scale);
    expect_near(forward.out, expected.detach(), tolerance(), "out");
    const ops::AttentionGradients gradients =
        ops::attention_backward_cuda(dout, q, k, v, forward, s.rows, scale);
    expect_near(gradients.dq, in[0].grad(), 2 * tolerance(), "dq");
    expect_near(gradients.dk, in[1].grad(), 2 * tolerance(), "dk");
    expect_near(gradients.dv, in[2].grad(), 2 * tolerance(), "dv");

    // The same bits from heads that are columns of one matrix.
    const at::Tensor all = at::cat({q, k, v}, 2);
    const at::Tensor queries = all.narrow(2, 0, s.heads), keys = all.narrow(2, s.heads, s.key_heads),
                     values = all.narrow(2, s.heads + s.key_heads, s.key_heads);
    const ops::AttentionForward again = ops::attention_forward_cuda(queries, keys, values, s.rows, scale);
    EXPECT_TRUE(same_bits(again.out, forward.out));
    const ops::AttentionGradients back =
        ops::attention_backward_cuda(dout, queries, keys, values, again, s.rows, scale);
    EXPECT_TRUE(same_bits(back.dq, gradients.dq));
    EXPECT_TRUE(same_bits(back.dk, gradients.dk));
    EXPECT_TRUE(same_bits(back.dv, gradients.dv));
  }
}

TEST_P(CudaRoutes, AttentionWithCacheAsOnTheCpu) {
  ops::KeyValueCache cache{at::zeros({1, 200, 2, 8}, type()), at::zeros({1, 200, 2, 8}, type())};
  std::int64_t past = 0;
  for (const std::int64_t tokens : {140, 1, 3}) {
    const at::Tensor q = random_tensor({1, tokens, 4, 8}, type()),
                     k = random_tensor({1, tokens, 2, 8}, type()),
                     v = random_tensor({1, tokens, 2, 8}, type());
    const at::Tensor expected = ops::attention_with_cache(q, k, v, cache, past, 0.3f);
    at::Tensor out = at::empty_like(q);
    ops::attention_with_cache_cuda(q, cache, past, 0.3f, out);
    expect_near(out, expected, tolerance(), "out");
    past += tokens;
  }
}

// Unsupervised tokens, several chunks, a last chunk that is not full; nothing supervised; a frozen matrix.
TEST_P(CudaRoutes, HeadAsOnTheCpu) {
  const std::int64_t rows = 23, hidden = 16, vocabulary = 1500;
  for (const int stride : {1, 3, 100}) {
    for (const bool frozen : {false, true}) {
      at::manual_seed(stride);
      TestParameter norm_weight("norm", {hidden}, type(), 1), weight("head", {vocabulary, hidden}, type());
      weight.handle.set_trainable(!frozen);
      const ops::Norm norm{ops::NormKind::rms, &norm_weight.handle, 1e-5};
      const at::Tensor x = random_tensor({rows, hidden}, type());
      at::Tensor targets = at::full({rows}, ops::kIgnoredTarget, at::kInt);
      if (stride < rows) {
        for (std::int64_t row = 1; row < rows; row += stride) targets[row] = (row * 977) % vocabulary;
      }
      const ops::HeadResult expected = ops::head_loss(x, targets, {norm, &weight.handle}, 5, 0.25f, true);
      const at::Tensor dnorm = norm_weight.handle.gradient(), dweight = weight.handle.gradient();
      norm_weight.handle.bind_gradient(norm_weight.gradient_before.clone());
      weight.handle.bind_gradient(weight.gradient_before.clone());
      const ops::HeadResult actual = ops::head_loss_cuda(x, targets, {norm, &weight.handle}, 5, 0.25f, true);
      EXPECT_NEAR(actual.loss_sum, expected.loss_sum, 1e-5 * expected.loss_sum);
      expect_near(actual.dx, expected.dx, 2 * tolerance(), "dx");
      expect_near(norm_weight.handle.gradient(), dnorm, type() == at::kFloat ? 1e-5 : 5e-3, "norm");
      expect_near(weight.handle.gradient(), dweight, type() == at::kFloat ? 1e-5 : 5e-3, "head");
      EXPECT_EQ(same_bits(weight.handle.gradient(), weight.gradient_before), frozen || stride == 100);
      const ops::HeadResult evaluated = ops::head_loss_cuda(x, targets, {norm, &weight.handle}, 7, 1, false);
      EXPECT_NEAR(evaluated.loss_sum, expected.loss_sum, 1e-5 * expected.loss_sum);
      EXPECT_FALSE(evaluated.dx.defined());
      expect_near(ops::head_logits_cuda(x, {norm, &weight.handle}),
                  ops::head_logits(x, {norm, &weight.handle}), 1e-5, "logits");
    }
  }
}

// A LayerNorm and a projection before the vocabulary matrix, or the projection alone.
TEST_P(CudaRoutes, ProjectingHeadAsOnTheCpu) {
  const std::int64_t rows = 23, hidden = 16, width = 12, vocabulary = 700;
  for (const bool has_norm : {true, false}) {
    at::manual_seed(9);
    TestParameter norm_weight("norm", {hidden}, type(), 1), norm_bias("norm bias", {hidden}, type());
    TestParameter projection("projection", {width, hidden}, type()),
        weight("head", {vocabulary, width}, type());
    const std::vector<TestParameter*> all{&projection, &weight, &norm_weight, &norm_bias};
    ops::Head head{{}, &weight.handle, &projection.handle};
    if (has_norm) head.norm = {ops::NormKind::layer, &norm_weight.handle, 1e-5, &norm_bias.handle};
    const at::Tensor x = random_tensor({rows, hidden}, type());
    at::Tensor targets = at::full({rows}, ops::kIgnoredTarget, at::kInt);
    for (std::int64_t row = 1; row < rows; row += 2) targets[row] = (row * 977) % vocabulary;
    const ops::HeadResult expected = ops::head_loss(x, targets, head, 5, 0.25f, true);
    std::vector<at::Tensor> gradients;
    for (TestParameter* parameter : all) {
      gradients.push_back(parameter->handle.gradient());
      parameter->handle.bind_gradient(parameter->gradient_before.clone());
    }
    const ops::HeadResult actual = ops::head_loss_cuda(x, targets, head, 5, 0.25f, true);
    EXPECT_NEAR(actual.loss_sum, expected.loss_sum, 1e-5 * expected.loss_sum);
    expect_near(actual.dx, expected.dx, 2 * tolerance(), "dx");
    for (std::size_t i = 0; i < all.size(); ++i) {
      expect_near(all[i]->handle.gradient(), gradients[i], type() == at::kFloat ? 1e-5 : 8e-3,
                  all[i]->handle.name());
      EXPECT_EQ(same_bits(gradients[i], all[i]->gradient_before), !has_norm && i >= 2) << i;
    }
    expect_near(ops::head_logits_cuda(x, head), ops::head_logits(x, head), 1e-5, "logits");
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaRoutes, ::testing::Values(at::kFloat, at::kBFloat16), type_name);

}  // namespace
}  // namespace autoglm
