// Attention and the head's loss against plain formulas.
#include "trainer/ops/attention.h"
#include "tests/trainer/ops/reference.h"
#include "trainer/ops/head.h"

namespace autoglm {
namespace {

using reference::compare;
using reference::random_tensor;
using reference::Tensors;
using reference::TestParameter;

class AttentionTest : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  AttentionTest() { at::manual_seed(9); }
  at::ScalarType type() const { return GetParam(); }
};

// Which tokens of a row see which, as 0 and -infinity [B, 1, T, T].
at::Tensor mask_of(const ops::PackedRows& rows) {
  at::Tensor mask = at::full({rows.batch, 1, rows.length, rows.length}, -INFINITY, at::kDouble);
  for (std::int64_t row = 0; row < rows.batch; ++row) {
    std::int64_t document = 0;
    for (std::int64_t i = 0; i < rows.length; ++i) {
      for (const std::int32_t start : rows.document_starts) {
        if (start == row * rows.length + i) document = i;
      }
      for (std::int64_t j = document; j <= i; ++j) {
        mask[row][0][i][j] = 0.0;
        if (!rows.causal) mask[row][0][j][i] = 0.0;
      }
    }
  }
  return mask;
}

at::Tensor formula(const Tensors& in, const at::Tensor& mask, float scale) {
  const at::Tensor q = in[0].transpose(1, 2);
  const std::int64_t group = in[0].size(2) / in[1].size(2);
  const at::Tensor k = in[1].transpose(1, 2).repeat_interleave(group, 1);
  const at::Tensor v = in[2].transpose(1, 2).repeat_interleave(group, 1);
  const at::Tensor p =
      at::softmax(at::matmul(q, k.transpose(-1, -2)) * static_cast<double>(scale) + mask, -1);
  return at::matmul(p, v).transpose(1, 2);
}

TEST_P(AttentionTest, SeesTheEarlierTokensOfItsDocumentOrAll) {
  struct Shape {
    std::int64_t heads, key_heads, head_dim;
    ops::PackedRows rows;
  };
  const Shape shapes[] = {
      {4, 4, 8, {1, 5, {0}}},
      {6, 2, 10, {2, 37, {0, 1, 12, 37, 60}}},
      {3, 1, 5, {3, 70, {0, 69, 70, 71, 140}}},
      {2, 1, 16, {1, 200, {0, 130}}},   // longer than a tile of queries
      {2, 2, 3, {1, 4, {0, 1, 2, 3}}},  // every token for itself
      {6, 2, 10, {2, 37, {0, 1, 12, 37, 60}, false}},
      {2, 1, 16, {1, 200, {0, 130}, false}},
  };
  for (const Shape& shape : shapes) {
    const auto tensor = [&](std::int64_t heads) {
      return random_tensor({shape.rows.batch, shape.rows.length, heads, shape.head_dim}, type()) * 1.5;
    };
    const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
    const at::Tensor mask = mask_of(shape.rows);
    compare(
        {tensor(shape.heads), tensor(shape.key_heads), tensor(shape.key_heads)}, {},
        [&](const Tensors& in) { return ops::attention(in[0], in[1], in[2], shape.rows, scale); },
        [&](const Tensors& in, const Tensors&) { return formula(in, mask, scale); });
  }
}

// A document gives the same bits alone in a row, at the beginning, in the middle and at the end of one.
TEST_P(AttentionTest, DoesNotDependOnHowRowsArePacked) {
  constexpr std::int64_t kLength = 150, kDocument = 83;
  const at::AutoGradMode mode(true);
  const Tensors document{random_tensor({1, kDocument, 4, 12}, type()),
                         random_tensor({1, kDocument, 2, 12}, type()),
                         random_tensor({1, kDocument, 2, 12}, type())};
  const at::Tensor gradient = random_tensor({1, kDocument, 4, 12}, type());
  const auto run = [&](std::int64_t length, std::int64_t at_token) {
    Tensors leaves;
    for (const at::Tensor& part : document) {
      at::Tensor row = random_tensor({1, length, part.size(2), 12}, type());
      row.narrow(1, at_token, kDocument).copy_(part);
      leaves.push_back(row.requires_grad_(true));
    }
    ops::PackedRows rows{1, length, {0}};
    if (at_token > 0) rows.document_starts.push_back(static_cast<std::int32_t>(at_token));
    rows.document_starts.push_back(static_cast<std::int32_t>(at_token + kDocument));
    const at::Tensor y = ops::attention(leaves[0], leaves[1], leaves[2], rows, 0.3f);
    at::Tensor dy = random_tensor(y.sizes(), type());
    dy.narrow(1, at_token, kDocument).copy_(gradient);
    y.backward(dy);
    Tensors results{y.detach().narrow(1, at_token, kDocument)};
    for (const at::Tensor& leaf : leaves) results.push_back(leaf.grad().narrow(1, at_token, kDocument));
    return results;
  };
  const Tensors expected = run(kDocument, 0);
  for (const std::int64_t at_token :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{50}, kLength - kDocument}) {
    const Tensors actual = run(kLength, at_token);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(reference::same_bits(actual[i], expected[i])) << "tensor " << i << " at token " << at_token;
    }
  }
}

// Large scores do not overflow.
TEST_P(AttentionTest, SurvivesSaturatedScores) {
  const ops::PackedRows rows{1, 20, {0}};
  const Tensors inputs{random_tensor({1, 20, 2, 8}, type()) * 60, random_tensor({1, 20, 2, 8}, type()) * 60,
                       random_tensor({1, 20, 2, 8}, type())};
  const at::Tensor y = ops::attention(inputs[0], inputs[1], inputs[2], rows, 1.0f);
  EXPECT_TRUE(at::isfinite(y).all().item<bool>());
  Tensors exact;
  for (const at::Tensor& input : inputs) exact.push_back(input.to(at::kDouble));
  reference::expect_near(y, formula(exact, mask_of(rows), 1.0f), type() == at::kFloat ? 2e-3 : 2e-2, "value");
}

TEST_P(AttentionTest, WithACacheEqualsTheWhole) {
  constexpr std::int64_t kTokens = 19;
  const at::Tensor q = random_tensor({1, kTokens, 6, 10}, type()),
                   k = random_tensor({1, kTokens, 3, 10}, type()),
                   v = random_tensor({1, kTokens, 3, 10}, type());
  const at::Tensor expected = ops::attention(q, k, v, {1, kTokens, {0}}, 0.4f);
  ops::KeyValueCache cache{at::empty({1, 25, 3, 10}, q.options()), at::empty({1, 25, 3, 10}, q.options())};
  std::int64_t past = 0;
  for (const std::int64_t count : {7, 1, 1, 10}) {
    const auto part = [&](const at::Tensor& x) { return x.narrow(1, past, count).contiguous(); };
    const at::Tensor y = ops::attention_with_cache(part(q), part(k), part(v), cache, past, 0.4f);
    reference::expect_near(y, expected.narrow(1, past, count), reference::tolerance_of(type()), "tokens");
    past += count;
  }
}

struct HeadCase {
  std::int64_t tokens, hidden, vocabulary, chunk;
};

class HeadTest : public AttentionTest {
 protected:
  // Targets of which every third is supervised.
  static at::Tensor targets_for(std::int64_t tokens, std::int64_t vocabulary) {
    at::Tensor targets = at::full({tokens}, ops::kIgnoredTarget, at::kInt);
    for (std::int64_t i = 1; i < tokens; i += 3) targets[i] = i * 7 % vocabulary;
    return targets;
  }
};

TEST_P(HeadTest, LossAndGradients) {
  const HeadCase cases[] = {
      {1, 5, 3, 1}, {20, 37, 131, 20}, {40, 16, 64, 7}, {33, 24, 1000, 2}, {8, 129, 50, 100}};
  for (const HeadCase& c : cases) {
    TestParameter norm_weight("norm", {c.hidden}, type(), 1),
        weight("head", {c.vocabulary, c.hidden}, type());
    const ops::Norm norm{ops::NormKind::rms, &norm_weight.handle, 1e-5};
    const at::Tensor x = random_tensor({c.tokens, c.hidden}, type());
    at::Tensor targets = targets_for(c.tokens, c.vocabulary);
    targets[0] = static_cast<int>(c.vocabulary - 1);
    const ops::HeadResult result = ops::head_loss(x, targets, {norm, &weight.handle}, c.chunk, 0.25f, true);

    const at::AutoGradMode mode(true);
    const at::Tensor x64 = x.to(at::kDouble).clone().requires_grad_(true);
    const at::Tensor norm64 = norm_weight.handle.weight().to(at::kDouble).clone().requires_grad_(true);
    const at::Tensor weight64 = weight.handle.weight().to(at::kDouble).clone().requires_grad_(true);
    const at::Tensor logits = at::matmul(reference::rms_norm(x64, norm64, 1e-5), weight64.t());
    const at::Tensor loss =
        at::nll_loss(at::log_softmax(logits, -1), targets.to(at::kLong), {}, at::Reduction::Sum, -100);
    (loss * 0.25).backward();
    const double tolerance = reference::tolerance_of(type());
    EXPECT_NEAR(result.loss_sum, loss.item<double>(), tolerance * loss.item<double>());
    reference::expect_near(result.dx, x64.grad(), 2 * tolerance, "x");
    reference::expect_near(norm_weight.added_gradient(), norm64.grad(), 2 * tolerance, "norm");
    reference::expect_near(weight.added_gradient(), weight64.grad(), 2 * tolerance, "weight");
    reference::expect_near(ops::head_logits(x, {norm, &weight.handle}), logits.detach(), tolerance, "logits");

    const ops::HeadResult evaluated = ops::head_loss(x, targets, {norm, &weight.handle}, c.chunk, 1, false);
    EXPECT_EQ(evaluated.loss_sum, result.loss_sum);
    EXPECT_FALSE(evaluated.dx.defined());
  }
}

TEST_P(HeadTest, NothingSupervised) {
  TestParameter norm_weight("norm", {12}, type(), 1), weight("head", {30, 12}, type());
  const ops::Norm norm{ops::NormKind::rms, &norm_weight.handle, 1e-5};
  const at::Tensor x = random_tensor({9, 12}, type());
  const at::Tensor targets = at::full({9}, ops::kIgnoredTarget, at::kInt);
  const ops::HeadResult result = ops::head_loss(x, targets, {norm, &weight.handle}, 4, 1, true);
  EXPECT_EQ(result.loss_sum, 0);
  EXPECT_EQ(result.dx.sizes(), x.sizes());
  EXPECT_EQ(at::count_nonzero(result.dx).item<std::int64_t>(), 0);
  EXPECT_EQ(at::count_nonzero(weight.added_gradient()).item<std::int64_t>(), 0);
  EXPECT_EQ(at::count_nonzero(norm_weight.added_gradient()).item<std::int64_t>(), 0);
  EXPECT_TRUE(weight.handle.take_gradient_written());
  EXPECT_TRUE(norm_weight.handle.take_gradient_written());
  EXPECT_EQ(ops::head_loss(x, targets, {norm, &weight.handle}, 4, 1, false).loss_sum, 0);
}

TEST_P(HeadTest, RefusesATargetOutsideTheVocabulary) {
  TestParameter norm_weight("norm", {12}, type(), 1), weight("head", {30, 12}, type());
  const at::Tensor x = random_tensor({2, 12}, type());
  const ops::Norm norm{ops::NormKind::rms, &norm_weight.handle, 1e-5};
  EXPECT_THROW(ops::head_loss(x, at::full({2}, 30, at::kInt), {norm, &weight.handle}, 4, 1, true), Error);
  EXPECT_THROW(ops::head_loss(x, at::full({2}, -1, at::kInt), {norm, &weight.handle}, 4, 1, true), Error);
}

std::string type_name(const ::testing::TestParamInfo<at::ScalarType>& info) {
  return info.param == at::kFloat ? "fp32" : "bf16";
}
INSTANTIATE_TEST_SUITE_P(Types, AttentionTest, ::testing::Values(at::kFloat, at::kBFloat16), type_name);
INSTANTIATE_TEST_SUITE_P(Types, HeadTest, ::testing::Values(at::kFloat, at::kBFloat16), type_name);

}  // namespace
}  // namespace autoglm
