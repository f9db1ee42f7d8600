// The kernels of the CUDA routes that end in a softmax: head and attention. As in cuda_kernels.h.
#pragma once

#include "trainer/ops/cuda_group.h"

namespace autoglm::ops::cuda {

// Block: a row of fp32 logits [rows, vocabulary]. losses[row] = -log softmax(logits)[target], 0 for a
// negative target. When training, the row becomes the gradient of loss * scale as T, dense from the row's
// first byte.
template <typename T>
struct CrossEntropy {
  float* logits;
  const std::int32_t* targets;
  double* losses;
  std::int64_t vocabulary;
  float scale;
  bool training;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    float* line = logits + row * vocabulary;
    const std::int64_t target = targets[row];
    const bool vectors = vocabulary % kEach == 0 && hold_vectors(line);
    if (target < 0) {
      if (group.rank() == 0) losses[row] = 0;
      if (training) clear(group, line, vectors);
      return;
    }
    require(target < vocabulary, "targets lie in the vocabulary");
    // Sums are of exponentials beside the largest so far: one pass over what fits no cache.
    float mine = -INFINITY;
    double exponentials = 0;
    each_vector<float>(group, 0, vocabulary, vectors, [&](std::int64_t i, auto constant) {
      constexpr int kCount = decltype(constant)::value;
      const auto values = load_vector<kCount>(line, i);
      float most = mine;
      for (int k = 0; k < kCount; ++k) most = values.get(k) > most ? values.get(k) : most;
      if (most > mine) {
        exponentials *= static_cast<double>(std::exp(mine - most));
        mine = most;
      }
      const float shift = mine == -INFINITY ? 0.0f : mine;
      for (int k = 0; k < kCount; ++k) exponentials += static_cast<double>(std::exp(values.get(k) - shift));
    });
    const float largest = group.maximum(mine);
    const double target_logit = line[target];
    const double sum = group.sum(exponentials * static_cast<double>(std::exp(mine - largest)));
    if (group.rank() == 0) losses[row] = static_cast<double>(largest) + std::log(sum) - target_logit;
    if (!training) return;
    const float factor = scale / static_cast<float>(sum);
    if (vectors) {
      replace_by_gradient<kEach>(group, line, target, largest, factor);
    } else {
      replace_by_gradient<1>(group, line, target, largest, factor);
    }
  }

 private:
  // Elements that a thread replaces between two barriers.
  static constexpr int kEach = kVectorElements<float>;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void clear(const Group& group, float* line, bool vectors) const {
    each_vector<float>(group, 0, vocabulary, vectors, [&](std::int64_t i, auto constant) {
      constexpr int kCount = decltype(constant)::value;
      store_vector_over(line, i, Vector<T, kCount>{});
    });
  }

  // A tile is read by all threads before any of it is overwritten; what a narrower T overwrites lies in tiles
  // that were read before.
  template <int kCount, typename Group>
  AUTOGLM_HOST_DEVICE void replace_by_gradient(const Group& group, float* line, std::int64_t target,
                                               float largest, float factor) const {
    constexpr int kVectors = kEach / kCount;
    const std::int64_t tile = std::int64_t{kEach} * group.size();
    for (std::int64_t begin = 0; begin < vocabulary; begin += tile) {
      const std::int64_t first = begin + std::int64_t{group.rank()} * kCount;
      Vector<T, kCount> gradients[kVectors] = {};
      for (int j = 0; j < kVectors; ++j) {
        const std::int64_t i = first + std::int64_t{j} * group.size() * kCount;
        if (i >= vocabulary) continue;
        const auto values = load_vector<kCount>(line, i);
        for (int k = 0; k < kCount; ++k)
          gradients[j].set(k, std::exp(values.get(k) - largest) * factor - (i + k == target ? scale : 0.0f));
      }
      group.sync();
      for (int j = 0; j < kVectors; ++j) {
        const std::int64_t i = first + std::int64_t{j} * group.size() * kCount;
        if (i < vocabulary) store_vector_over(line, i, gradients[j]);
      }
    }
  }
};

// Block: a query's row of scores [heads * count, seen], query i of each head seeing the first first_visible +
// i keys, at most all. Scores become probabilities; log_sum, unless null, takes the logarithm of the sum of exponentials
// at [head * log_sum_stride + i].
struct AttentionSoftmax {
  float* scores;
  float* log_sum;
  std::int64_t count;
  std::int64_t seen;
  std::int64_t first_visible;
  std::int64_t log_sum_stride;
  float scale;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const std::int64_t i = row % count, visible = first_visible + i < seen ? first_visible + i : seen;
    float* line = scores + row * seen;
    float mine = -INFINITY;
    each(group, 0, visible, [&](std::int64_t k) { mine = line[k] * scale > mine ? line[k] * scale : mine; });
    const float largest = group.maximum(mine);
    double exponentials = 0;
    each(group, 0, visible,
         [&](std::int64_t k) { exponentials += static_cast<double>(std::exp(line[k] * scale - largest)); });
    const auto sum = static_cast<float>(group.sum(exponentials));
    each(group, 0, seen,
         [&](std::int64_t k) { line[k] = k < visible ? std::exp(line[k] * scale - largest) / sum : 0.0f; });
    if (log_sum != nullptr && group.rank() == 0) {
      log_sum[row / count * log_sum_stride + i] = largest + std::log(sum);
    }
  }
};

// Block: the same row in the backward. Scores become probabilities again, and their gradient becomes that of
// the scores.
struct AttentionSoftmaxBackward {
  float* scores;
  float* dprobabilities;
  const float* log_sum;
  std::int64_t count;
  std::int64_t seen;
  std::int64_t first_visible;
  std::int64_t log_sum_stride;
  float scale;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const std::int64_t i = row % count, visible = first_visible + i < seen ? first_visible + i : seen;
    float* line = scores + row * seen;
    float* gradient = dprobabilities + row * seen;
    const float shift = log_sum[row / count * log_sum_stride + i];
    double products = 0;
    each(group, 0, visible, [&](std::int64_t k) {
      line[k] = std::exp(line[k] * scale - shift);
      products += static_cast<double>(line[k] * gradient[k]);
    });
    const auto delta = static_cast<float>(group.sum(products));
    each(group, 0, seen, [&](std::int64_t k) {
      gradient[k] = k < visible ? line[k] * (gradient[k] - delta) * scale : 0.0f;
      line[k] = k < visible ? line[k] : 0.0f;
    });
  }
};

}  // namespace autoglm::ops::cuda
