// Models of a few thousand parameters with seeded random weights, and random rows for them.
#pragma once

#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "trainer/engine/engine.h"

namespace autoglm::tiny {

// What a test varies; the rest follows.
struct Shape {
  std::string family = "llama";
  bool tied = false;
  bool attention_bias = false;
  bool mlp_bias = false;
  std::int64_t layers = 3;
  std::int64_t hidden = 44;  // by default no extent is a multiple of a vector's width
  std::int64_t heads = 6;
  std::int64_t key_heads = 2;
  std::int64_t head_dim = 10;
  std::int64_t ffn = 70;
  std::int64_t vocabulary = 131;
  // opt: four heads that share `hidden`, whatever is said above
  std::int64_t embedding = 0;  // width of the table; 0: hidden
  bool norm_first = true;
};

inline ModelConfig opt_config_of(const Shape& shape, ModelConfig config) {
  config.num_heads = config.num_key_heads = 4;
  config.head_dim = shape.hidden / 4;
  config.max_positions = 400;
  config.attention_bias = config.mlp_bias = true;
  if (shape.embedding > 0) config.embedding_size = shape.embedding;
  config.norm_first = shape.norm_first;
  return config;
}

inline ModelConfig config_of(const Shape& shape) {
  ModelConfig config;
  config.model_type = shape.family;
  config.hidden_size = shape.hidden;
  config.num_layers = shape.layers;
  config.num_heads = shape.heads;
  config.num_key_heads = shape.key_heads;
  config.head_dim = shape.head_dim;
  config.intermediate_size = shape.ffn;
  config.vocabulary_size = shape.vocabulary;
  config.max_positions = 4096;
  config.norm_epsilon = 1e-5;
  config.attention_bias = shape.attention_bias;
  config.mlp_bias = shape.mlp_bias;
  config.tied_embeddings = shape.tied;
  config.embedding_size = shape.hidden;
  if (shape.family == "opt") return opt_config_of(shape, config);
  const bool glm4 = shape.family == "glm4";
  const std::int64_t pairs = glm4 ? shape.head_dim / 4 : shape.head_dim / 2;
  ops::RotarySpec rotary;
  for (std::int64_t i = 0; i < pairs; ++i) {
    rotary.inverse_frequencies.push_back(
        static_cast<float>(std::pow(1e4, -static_cast<double>(i) / static_cast<double>(pairs))));
  }
  rotary.interleaved = glm4;
  config.rotary = {rotary};
  return config;
}

// Fills an engine's parameters: norms' weights around 1, everything else around 0, by name and seed alone.
inline void load_random(Engine& engine, std::uint32_t seed = 1, float scale = 0.15f) {
  engine.state_access().load([&](const std::string& name, std::int64_t offset, std::span<float> values) {
    std::seed_seq sequence(name.begin(), name.end());
    std::mt19937 random(sequence);
    random.discard(seed);
    random.discard(static_cast<unsigned long long>(offset));  // a value takes one number
    std::uniform_real_distribution<float> uniform(-1, 1);
    const bool scales = name.find("norm") != std::string::npos && !name.ends_with(".bias");
    const float center = scales ? 1.0f : 0.0f;
    for (float& value : values) value = center + scale * 1.7f * uniform(random);
  });
}

struct Row {
  std::vector<std::int32_t> ids, targets, positions, starts;

  std::int64_t num_supervised() const {
    std::int64_t count = 0;
    for (const std::int32_t target : targets) count += target != ops::kIgnoredTarget;
    return count;
  }
};

// A row of random documents. A token's successor is mostly a fixed function of it, so that there is something
// to learn; a part of the tokens is supervised, never the last one of a document.
inline Row random_row(std::mt19937& random, std::int64_t length, std::int64_t vocabulary,
                      double supervised = 0.6) {
  const auto below = [&](std::int64_t limit) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(limit));
  };
  Row row;
  std::int64_t left = 0;
  for (std::int64_t i = 0; i < length; ++i) {
    if (left == 0) {
      row.starts.push_back(static_cast<std::int32_t>(i));
      left = 1 + below(std::max<std::int64_t>(2, length / 2));
    }
    --left;
    const auto start = row.starts.back();
    row.positions.push_back(static_cast<std::int32_t>(i) - start);
    const bool follows = i > start && below(10) < 8;
    row.ids.push_back(
        static_cast<std::int32_t>(follows ? (row.ids.back() * 7 + 3) % vocabulary : below(vocabulary)));
  }
  row.targets.assign(row.ids.size(), ops::kIgnoredTarget);
  for (std::size_t i = 0; i + 1 < row.ids.size(); ++i) {
    const bool last = row.positions[i + 1] == 0;
    if (!last && static_cast<double>(below(1000)) < 1000 * supervised) row.targets[i] = row.ids[i + 1];
  }
  return row;
}

inline void fill(MicroBatch& batch, std::span<const Row> rows) {
  for (std::int64_t slot = 0; slot < batch.rows.batch; ++slot) {
    if (slot >= static_cast<std::int64_t>(rows.size())) {
      batch.clear_row(slot);
      continue;
    }
    const Row& row = rows[static_cast<std::size_t>(slot)];
    batch.set_row(slot, row.ids, row.targets, row.positions, row.starts);
  }
}

using Weights = std::map<std::string, std::vector<float>>;

// Every parameter as its fp32 master.
inline Weights weights_of(Engine& engine) {
  Weights weights;
  engine.state_access().export_parameters(
      [](const std::string&) { return DType::float32; },
      [&](const std::string& name, std::int64_t offset, std::span<const float> values) {
        std::vector<float>& all = weights[name];
        all.resize(static_cast<std::size_t>(offset));
        all.insert(all.end(), values.begin(), values.end());
      });
  return weights;
}

// How many values differ in any bit.
inline std::int64_t differing_bits(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return -1;
  std::int64_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += std::memcmp(&a[i], &b[i], sizeof(float)) != 0;
  return count;
}

}  // namespace autoglm::tiny
