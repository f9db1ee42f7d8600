// The kernels of the ops' CUDA routes. Pointers are to device memory (to host memory when run on the host);
// T is float or bf16_bits, the storage type of activations. Arithmetic is fp32, long sums are fp64 and in a
// fixed order. Formulas are those of simd/kernels.h.
#pragma once

#include "trainer/ops/cuda_group.h"
#include "trainer/ops/cuda_layer_norm_kernels.h"
#include "trainer/ops/cuda_softmax_kernels.h"

namespace autoglm::ops::cuda {

template <typename T>
AUTOGLM_HOST_DEVICE inline float normed_element(const T* x, const T* weight, std::int64_t i, float rstd) {
  return load(x, i) * rstd * load(weight, i);
}

// Block: a row of x [rows, width].
template <typename T>
struct RmsNormForward {
  const T* x;
  const T* weight;
  T* y;
  float* rstd;
  std::int64_t width;
  float epsilon;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const T* from = x + row * width;
    T* to = y + row * width;
    double squares = 0;
    each(group, 0, width,
         [&](std::int64_t i) { squares += static_cast<double>(load(from, i) * load(from, i)); });
    const auto sum = static_cast<float>(group.sum(squares));
    const float scale = 1.0f / std::sqrt(sum / static_cast<float>(width) + epsilon);
    if (group.rank() == 0) rstd[row] = scale;
    each(group, 0, width, [&](std::int64_t i) { store(to, i, normed_element(from, weight, i, scale)); });
  }
};

// Block: a row; the same y from a known rstd.
template <typename T>
struct RmsNormAgain {
  const T* x;
  const T* weight;
  const float* rstd;
  T* y;
  std::int64_t width;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const T* from = x + row * width;
    T* to = y + row * width;
    const float scale = rstd[row];
    each(group, 0, width, [&](std::int64_t i) { store(to, i, normed_element(from, weight, i, scale)); });
  }
};

// Block: a row of dx.
template <typename T>
struct RmsNormBackward {
  const T* dy;
  const T* x;
  const T* weight;
  const float* rstd;
  T* dx;
  std::int64_t width;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const T* from = x + row * width;
    const T* gradient = dy + row * width;
    T* to = dx + row * width;
    const float scale = rstd[row];
    double products = 0;
    each(group, 0, width, [&](std::int64_t i) {
      products += static_cast<double>(load(gradient, i) * load(weight, i) * load(from, i));
    });
    const float shrink = static_cast<float>(group.sum(products)) * scale * scale / static_cast<float>(width);
    each(group, 0, width, [&](std::int64_t i) {
      store(to, i, scale * (load(gradient, i) * load(weight, i) - load(from, i) * shrink));
    });
  }
};

// Sums over rows are taken over slabs of this many rows, and then over the slabs: the same order always.
inline constexpr std::int64_t kSlabRows = 64;

// Block: kThreads columns of one slab of y [rows, width], summed into partial [slabs, width]. With x and rstd
// each element is multiplied by its normed x, as a norm weight's gradient wants it.
template <typename T>
struct SlabSums {
  const T* y;
  const T* x;         // [rows, width] or null
  const float* mean;  // [rows] or null
  const float* rstd;  // [rows] or null with x
  float* partial;
  std::int64_t rows;
  std::int64_t width;

  static std::int64_t blocks(std::int64_t rows, std::int64_t width) {
    return blocks_for(rows, kSlabRows) * blocks_for(width, kThreads);
  }

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    const std::int64_t tiles = (width + kThreads - 1) / kThreads;
    const std::int64_t slab = block / tiles, begin = block % tiles * kThreads;
    const std::int64_t end = begin + kThreads < width ? begin + kThreads : width;
    const std::int64_t first = slab * kSlabRows;
    const std::int64_t last = first + kSlabRows < rows ? first + kSlabRows : rows;
    each(group, begin, end, [&](std::int64_t column) {
      float sum = 0;
      for (std::int64_t row = first; row < last; ++row) {
        const float value = load(y, row * width + column);
        sum += x == nullptr ? value : value * normed(row, row * width + column);
      }
      partial[slab * width + column] = sum;
    });
  }

 private:
  AUTOGLM_HOST_DEVICE float normed(std::int64_t row, std::int64_t at) const {
    return (mean == nullptr ? load(x, at) : load(x, at) - mean[row]) * rstd[row];
  }
};

// Block: kThreads columns; adds the slabs' sums to gradient [width], which counts as zero when it is fresh.
struct AddSlabs {
  const float* partial;
  float* gradient;
  std::int64_t slabs;
  std::int64_t width;
  bool fresh;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    const std::int64_t begin = block * kThreads;
    each(group, begin, begin + kThreads < width ? begin + kThreads : width, [&](std::int64_t column) {
      float sum = fresh ? 0.0f : gradient[column];
      for (std::int64_t slab = 0; slab < slabs; ++slab) sum += partial[slab * width + column];
      gradient[column] = sum;
    });
  }
};

// Elementwise kernels: block b takes elements [b * kBlockElements, ...) of `count`.
template <typename Group, typename F>
AUTOGLM_HOST_DEVICE inline void each_of_block(const Group& group, std::int64_t block, std::int64_t count,
                                              F f) {
  const std::int64_t begin = block * kBlockElements;
  each(group, begin, begin + kBlockElements < count ? begin + kBlockElements : count, f);
}

// x [count] = max(x, 0); NaNs stay.
template <typename T>
struct Relu {
  T* x;
  std::int64_t count;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    each_of_block(group, block, count, [&](std::int64_t i) {
      const float value = load(x, i);
      store(x, i, value < 0 ? 0.0f : value);
    });
  }
};

// dy [count] = 0 where y is not above 0.
template <typename T>
struct ReluBackward {
  const T* y;
  T* dy;
  std::int64_t count;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    each_of_block(group, block, count, [&](std::int64_t i) {
      if (load(y, i) <= 0) store(dy, i, 0.0f);
    });
  }
};

AUTOGLM_HOST_DEVICE inline float sigmoid(float x) {
  return 1.0f / (1.0f + std::exp(-x));
}

// Gate and up are rows of `width` elements, `stride` apart; out is dense.
template <typename T>
struct SwigluForward {
  const T* gate;
  const T* up;
  T* out;
  std::int64_t count;
  std::int64_t width;
  std::int64_t stride;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    each_of_block(group, block, count, [&](std::int64_t i) {
      const std::int64_t at = i / width * stride + i % width;
      const float g = load(gate, at);
      store(out, i, g * sigmoid(g) * load(up, at));
    });
  }
};

template <typename T>
struct SwigluBackward {
  const T* gate;
  const T* up;
  const T* dout;
  T* dgate;
  T* dup;
  std::int64_t count;
  std::int64_t width;
  std::int64_t stride;
  std::int64_t gradient_stride;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    each_of_block(group, block, count, [&](std::int64_t i) {
      const std::int64_t row = i / width, column = i % width;
      const std::int64_t at = row * stride + column, to = row * gradient_stride + column;
      const float g = load(gate, at), u = load(up, at), d = load(dout, i);
      const float s = sigmoid(g);
      store(dup, to, d * (g * s));
      store(dgate, to, d * u * (s * (1.0f + g * (1.0f - s))));
    });
  }
};

// Elements: first halves of the head [head_dim]: each thread turns a pair or copies what is not rotated.
// x, y [tokens, heads, head_dim]; count = tokens * heads * (head_dim - pairs).
template <typename T>
struct Rotate {
  const T* x;
  T* y;
  const std::int32_t* positions;
  const float* cosine;
  const float* sine;
  std::int64_t count;
  std::int64_t heads;
  std::int64_t head_dim;
  std::int64_t pairs;
  std::int64_t num_positions;
  float sign;
  bool interleaved;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    const std::int64_t per_head = head_dim - pairs;
    each_of_block(group, block, count, [&](std::int64_t i) {
      const std::int64_t head = i / per_head, part = i % per_head;
      const T* from = x + head * head_dim;
      T* to = y + head * head_dim;
      if (part >= pairs) {
        to[part + pairs] = from[part + pairs];
        return;
      }
      const std::int64_t position = positions[head / heads];
      require(position >= 0 && position < num_positions);
      const float c = cosine[position * pairs + part], s = sine[position * pairs + part] * sign;
      const std::int64_t first = interleaved ? 2 * part : part;
      const std::int64_t second = interleaved ? first + 1 : part + pairs;
      const float a = load(from, first), b = load(from, second);
      store(to, first, a * c - b * s);
      store(to, second, b * c + a * s);
    });
  }
};

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

// Elements: of a dense matrix of rows of `width`, copied to rows `stride` apart.
template <typename T>
struct PlaceColumns {
  const T* from;
  T* to;
  std::int64_t count;
  std::int64_t width;
  std::int64_t stride;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    each_of_block(group, block, count, [&](std::int64_t i) { to[i / width * stride + i % width] = from[i]; });
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

// X(kernel type) for every kernel there is: what is compiled for the device.
#define AUTOGLM_EACH_CUDA_KERNEL(X)         \
  AUTOGLM_EACH_CUDA_KERNEL_OF(X, float)     \
  AUTOGLM_EACH_CUDA_KERNEL_OF(X, bf16_bits) \
  X(AddSlabs) X(LinkEqualIds) X(AttentionSoftmax) X(AttentionSoftmaxBackward)
#define AUTOGLM_EACH_CUDA_KERNEL_OF(X, T)                                                               \
  X(RmsNormForward<T>)                                                                                  \
  X(RmsNormAgain<T>)                                                                                    \
  X(RmsNormBackward<T>)                                                                                 \
  X(SlabSums<T>)                                                                                        \
  X(SwigluForward<T>)                                                                                   \
  X(SwigluBackward<T>) X(Rotate<T>) X(ScatterRows<T>) X(EmbeddingBackward<T>) X(CrossEntropy<T>)        \
      X(LayerNormForward<T>) X(LayerNormAgain<T>) X(LayerNormBackward<T>) X(Relu<T>) X(ReluBackward<T>) \
          X(PlaceColumns<T>) X(GatherRows<T, std::int32_t>) X(GatherRows<T, std::int64_t>)

}  // namespace autoglm::ops::cuda
