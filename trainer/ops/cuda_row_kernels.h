// Rows by index on the CUDA route: gathering, scattering, and the embedding's gradient.
#pragma once

#include "trainer/ops/cuda_group.h"

namespace autoglm::ops::cuda {

// Block: a row of `to` [rows, width] from the row of `from` [table_rows, width] that `index` names; zeros for
// a negative index.
template <typename T, typename Index>
struct GatherRows {
  const T* from;
  const Index* index;
  T* to;
  std::int64_t width;
  std::int64_t table_rows;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const auto source = static_cast<std::int64_t>(index[row]);
    require(source < table_rows);
    each(group, 0, width,
         [&](std::int64_t i) { to[row * width + i] = source < 0 ? T{0} : from[source * width + i]; });
  }
};

// Block: a row of `from`, copied to the row of `to` that `index` names; not copied for a negative index.
template <typename T>
struct ScatterRows {
  const T* from;
  const std::int32_t* index;
  T* to;
  std::int64_t width;
  std::int64_t table_rows;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const auto target = static_cast<std::int64_t>(index[row]);
    if (target < 0) return;
    require(target < table_rows);
    each(group, 0, width, [&](std::int64_t i) { to[target * width + i] = from[row * width + i]; });
  }
};

// Elements: tokens. Chains the tokens of one id: next[t] is the next token with t's id, or -1; is_first[t]
// says whether none comes before.
struct LinkEqualIds {
  const std::int64_t* ids;
  std::int32_t* next;
  std::int32_t* is_first;
  std::int64_t count;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    each_of_block(group, block, count, [&](std::int64_t t) {
      const std::int64_t id = ids[t];
      std::int64_t after = t + 1, before = t - 1;
      while (after < count && ids[after] != id) ++after;
      while (before >= 0 && ids[before] != id) --before;
      next[t] = after < count ? static_cast<std::int32_t>(after) : -1;
      is_first[t] = before < 0 ? 1 : 0;
    });
  }
};

// Block: a token that is the first of its id adds the gradients of the whole chain, in the order of tokens.
template <typename T>
struct EmbeddingBackward {
  const T* dy;  // [count, width]
  const std::int64_t* ids;
  const std::int32_t* next;
  const std::int32_t* is_first;
  float* gradient;  // [table_rows, width]
  std::int64_t width;
  std::int64_t table_rows;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t token) const {
    if (is_first[token] == 0) return;
    require(ids[token] >= 0 && ids[token] < table_rows);
    float* to = gradient + ids[token] * width;
    each(group, 0, width, [&](std::int64_t i) {
      float sum = to[i];
      for (std::int64_t t = token; t >= 0; t = next[t]) sum += load(dy, t * width + i);
      to[i] = sum;
    });
  }
};

}  // namespace autoglm::ops::cuda
