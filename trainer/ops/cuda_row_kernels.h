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
    require(source < table_rows, "rows that are gathered lie in the table");
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
    require(target < table_rows, "rows that are scattered lie in the table");
    each(group, 0, width, [&](std::int64_t i) { to[target * width + i] = from[row * width + i]; });
  }
};

// Block: kThreads tokens. Puts the tokens of each id beside each other, in their order: order[place] is the token there, and
// length[place] how many tokens have the id, where the first of them stands, else 0.
struct OrderByIds {
  const std::int64_t* ids;
  std::int32_t* order;
  std::int32_t* length;
  std::int64_t count;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    const std::int64_t begin = block * kThreads, end = begin + kThreads < count ? begin + kThreads : count;
    for (std::int64_t t = begin + group.rank(); t < end; t += group.size()) {
      const std::int64_t id = ids[t];
      std::int32_t smaller = 0, before = 0, equal = 0;
#ifdef __CUDA_ARCH__
#pragma unroll 8
#endif
      for (std::int32_t other = 0; other < static_cast<std::int32_t>(count); ++other) {
        const std::int64_t its = ids[other];
        smaller += its < id ? 1 : 0;
        equal += its == id ? 1 : 0;
        before += its == id && other < t ? 1 : 0;
      }
      const std::int32_t place = smaller + before;
      order[place] = static_cast<std::int32_t>(t);
      length[place] = before == 0 ? equal : 0;
    }
  }
};

// Adds the gradients of the tokens of an id, in their order, to its row. Block: kThreads vectors of the row of the id
// whose first token stands at a place. The list of tokens is what lets many of them be read at once.
template <typename T>
struct EmbeddingBackward {
  static constexpr int kEach = 4;

  const T* dy;  // [count, width]
  const std::int64_t* ids;
  const std::int32_t* order;
  const std::int32_t* length;
  float* gradient;  // [table_rows, width]
  std::int64_t width;
  std::int64_t table_rows;

  static std::int64_t blocks(std::int64_t count, std::int64_t width) {
    return count * blocks_for(width, kThreads * kEach);
  }

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    const auto across = static_cast<std::uint32_t>(width + kThreads * kEach - 1) / (kThreads * kEach);
    const auto place = static_cast<std::uint32_t>(block) / across;
    const std::int32_t tokens = length[place];
    if (tokens == 0) return;
    const std::int64_t id = ids[order[place]];
    require(id >= 0 && id < table_rows, "token ids lie in the vocabulary");
    const std::int64_t begin = (static_cast<std::uint32_t>(block) - place * across) * (kThreads * kEach);
    const std::int64_t end = begin + kThreads * kEach < width ? begin + kThreads * kEach : width;
    float* to = gradient + id * width;
    if (width % kEach == 0 && hold_vectors(dy, gradient)) {
      for (std::int64_t i = begin + group.rank() * kEach; i < end; i += group.size() * kEach)
        add<kEach>(order + place, tokens, i, to);
    } else {
      for (std::int64_t i = begin + group.rank(); i < end; i += group.size())
        add<1>(order + place, tokens, i, to);
    }
  }

 private:
  template <int kCount>
  AUTOGLM_HOST_DEVICE void add(const std::int32_t* mine, std::int32_t tokens, std::int64_t column,
                               float* to) const {
    auto sums = load_vector<kCount>(to, column);
#ifdef __CUDA_ARCH__
#pragma unroll 8
#endif
    for (std::int32_t t = 0; t < tokens; ++t) {
      const auto values = load_vector<kCount>(dy, mine[t] * width + column);
      for (int k = 0; k < kCount; ++k) sums.set(k, sums.get(k) + values.get(k));
    }
    store_vector(to, column, sums);
  }
};

}  // namespace autoglm::ops::cuda
