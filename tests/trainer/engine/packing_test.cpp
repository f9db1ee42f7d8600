// A document gives the same logits, loss and gradients wherever it lies: alone in a row or packed with
// others.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/trainer/engine/tiny_model.h"

namespace autoglm {
namespace {

constexpr std::int64_t kLength = 60;

// Documents with every token but the last supervised.
std::vector<tiny::Row> documents(std::int64_t vocabulary) {
  std::mt19937 random(23);
  std::vector<tiny::Row> all;
  for (const std::int64_t length : {13, 1, 22, 24}) {
    tiny::Row document;
    document.starts = {0};
    for (std::int64_t i = 0; i < length; ++i) {
      document.ids.push_back(static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(vocabulary)));
      document.positions.push_back(static_cast<std::int32_t>(i));
    }
    document.targets.assign(document.ids.begin() + 1, document.ids.end());
    document.targets.push_back(ops::kIgnoredTarget);
    all.push_back(document);
  }
  return all;
}

tiny::Row packed(const std::vector<tiny::Row>& all) {
  tiny::Row row;
  for (const tiny::Row& document : all) {
    row.starts.push_back(static_cast<std::int32_t>(row.ids.size()));
    row.ids.insert(row.ids.end(), document.ids.begin(), document.ids.end());
    row.targets.insert(row.targets.end(), document.targets.begin(), document.targets.end());
    row.positions.insert(row.positions.end(), document.positions.begin(), document.positions.end());
  }
  return row;
}

// The document, and behind it an empty one that fills the row.
tiny::Row alone(tiny::Row document) {
  document.starts.push_back(static_cast<std::int32_t>(document.ids.size()));
  for (std::int32_t i = 0; static_cast<std::int64_t>(document.ids.size()) < kLength; ++i) {
    document.ids.push_back(0);
    document.targets.push_back(ops::kIgnoredTarget);
    document.positions.push_back(i);
  }
  return document;
}

struct Outcome {
  std::vector<at::Tensor> logits;  // of each document
  double loss = 0;
  tiny::Weights gradients;
};

Outcome run(const tiny::Shape& shape, const std::vector<tiny::Row>& rows,
            const std::vector<std::vector<std::pair<std::int64_t, std::int64_t>>>& places) {
  Model model = make_model(tiny::config_of(shape));
  EngineOptions options;
  options.precision = Precision::fp32;
  options.row_length = kLength;
  const auto communicator = make_self_communicator();
  Engine engine(model, options, *communicator);
  tiny::load_random(engine);
  Outcome outcome;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    MicroBatch batch(1, kLength, at::kCPU);
    tiny::fill(batch, std::span(&rows[i], 1));
    const at::Tensor logits = engine.logits(batch);
    for (const auto& [begin, length] : places[i]) {
      outcome.logits.push_back(logits.narrow(0, begin, length).clone());
    }
    outcome.loss += engine.train_micro_batch(batch, 0.1f);
  }
  engine.finish_accumulation(outcome.loss);
  engine.state_access().export_gradients(
      [&](const std::string& name, std::int64_t offset, std::span<const float> values) {
        std::vector<float>& all = outcome.gradients[name];
        all.resize(static_cast<std::size_t>(offset));
        all.insert(all.end(), values.begin(), values.end());
      });
  return outcome;
}

at::Tensor tensor_of(const std::vector<float>& values) {
  return at::tensor(values);
}

class PackingTest : public ::testing::TestWithParam<tiny::Shape> {};

TEST_P(PackingTest, DocumentsInOneRowAreAsOneByOne) {
  const std::vector<tiny::Row> all = documents(GetParam().vocabulary);
  std::vector<std::pair<std::int64_t, std::int64_t>> places;
  std::vector<tiny::Row> single;
  std::vector<std::vector<std::pair<std::int64_t, std::int64_t>>> firsts;
  std::int64_t begin = 0;
  for (const tiny::Row& document : all) {
    const auto length = static_cast<std::int64_t>(document.ids.size());
    places.emplace_back(begin, length);
    begin += length;
    single.push_back(alone(document));
    firsts.push_back({{0, length}});
  }
  ASSERT_EQ(begin, kLength);
  const Outcome one = run(GetParam(), {packed(all)}, {places});
  const Outcome many = run(GetParam(), single, firsts);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_LE((one.logits[i] - many.logits[i]).abs().max().item<float>(),
              1e-5f * many.logits[i].abs().max().item<float>())
        << "document " << i;
  }
  EXPECT_NEAR(one.loss, many.loss, 1e-6 * many.loss);
  double total = 0;
  for (const auto& [name, values] : many.gradients) total += tensor_of(values).square().sum().item<double>();
  for (const auto& [name, values] : many.gradients) {
    const at::Tensor expected = tensor_of(values);
    const double difference = (tensor_of(one.gradients.at(name)) - expected).norm().item<double>();
    // Some gradients are zero but for rounding: that of keys' biases, which no softmax sees.
    EXPECT_LE(difference, 1e-5 * expected.norm().item<double>() + 1e-7 * std::sqrt(total)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, PackingTest,
    ::testing::Values(tiny::Shape{}, tiny::Shape{.family = "glm4", .head_dim = 12},
                      tiny::Shape{.family = "opt", .tied = true},
                      tiny::Shape{.family = "opt", .tied = true, .embedding = 28, .norm_first = false}));

}  // namespace
}  // namespace autoglm
