// What the CUDA route computes element by element: activations, rotary positions, placing of columns.
#pragma once

#include "trainer/ops/cuda_group.h"

namespace autoglm::ops::cuda {

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

}  // namespace autoglm::ops::cuda
