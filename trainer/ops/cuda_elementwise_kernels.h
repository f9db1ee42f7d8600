// What the CUDA route computes element by element: activations, placing of columns.
#pragma once

#include "trainer/ops/cuda_tiles.h"

namespace autoglm::ops::cuda {

// Elements that a block of a kernel takes which knows no rows.
template <typename T>
inline constexpr std::int64_t kBlockVectors = kBlockElements* kVectorElements<T>;

// x [count] = max(x, 0); NaNs stay.
template <typename T>
struct Relu {
  T* x;
  std::int64_t count;

  static std::int64_t blocks(std::int64_t count) { return blocks_for(count, kBlockVectors<T>); }

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    each_vector_of_block<T>(group, block, count, hold_vectors(x), [&](std::int64_t i, auto constant) {
      constexpr int kCount = decltype(constant)::value;
      auto values = load_vector<kCount>(x, i);
      for (int k = 0; k < kCount; ++k) {
        const float value = values.get(k);
        values.set(k, value < 0 ? 0.0f : value);
      }
      store_vector(x, i, values);
    });
  }
};

// dy [count] = 0 where y is not above 0.
template <typename T>
struct ReluBackward {
  const T* y;
  T* dy;
  std::int64_t count;

  static std::int64_t blocks(std::int64_t count) { return blocks_for(count, kBlockVectors<T>); }

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    each_vector_of_block<T>(group, block, count, hold_vectors(y, dy), [&](std::int64_t i, auto constant) {
      constexpr int kCount = decltype(constant)::value;
      const auto values = load_vector<kCount>(y, i);
      auto gradient = load_vector<kCount>(dy, i);
      for (int k = 0; k < kCount; ++k) {
        if (values.get(k) <= 0) gradient.elements[k] = 0;
      }
      store_vector(dy, i, gradient);
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
  std::int64_t width;
  std::int64_t stride;
  Tiles tiles;

  SwigluForward() = default;
  SwigluForward(const T* gate_rows, const T* up_rows, T* product, std::int64_t rows, std::int64_t num_columns,
                std::int64_t row_stride)
      : gate(gate_rows),
        up(up_rows),
        out(product),
        width(num_columns),
        stride(row_stride),
        tiles(Tiles::of_vectors<T>(rows, width,
                                   hold_vectors(gate, up, out) && fill_vectors<T>(width, stride))) {}

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    tiles.each<T>(group, block, [&](std::int64_t row, std::int64_t column, auto constant) {
      constexpr int kCount = decltype(constant)::value;
      const std::int64_t at = row * stride + column;
      const auto g = load_vector<kCount>(gate, at), u = load_vector<kCount>(up, at);
      Vector<T, kCount> product;
      for (int k = 0; k < kCount; ++k) product.set(k, g.get(k) * sigmoid(g.get(k)) * u.get(k));
      store_vector(out, row * width + column, product);
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
  std::int64_t width;
  std::int64_t stride;
  std::int64_t gradient_stride;
  Tiles tiles;

  SwigluBackward() = default;
  // Gradients are rows `to_stride` apart; dout is dense.
  SwigluBackward(const T* gate_rows, const T* up_rows, const T* gradient, T* to_gate, T* to_up,
                 std::int64_t rows, std::int64_t num_columns, std::int64_t row_stride, std::int64_t to_stride)
      : gate(gate_rows),
        up(up_rows),
        dout(gradient),
        dgate(to_gate),
        dup(to_up),
        width(num_columns),
        stride(row_stride),
        gradient_stride(to_stride),
        tiles(Tiles::of_vectors<T>(
            rows, width,
            hold_vectors(gate, up, dout, dgate, dup) && fill_vectors<T>(width, stride, gradient_stride))) {}

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    tiles.each<T>(group, block, [&](std::int64_t row, std::int64_t column, auto constant) {
      constexpr int kCount = decltype(constant)::value;
      const std::int64_t at = row * stride + column, to = row * gradient_stride + column;
      const auto gates = load_vector<kCount>(gate, at), ups = load_vector<kCount>(up, at);
      const auto gradients = load_vector<kCount>(dout, row * width + column);
      Vector<T, kCount> to_gate, to_up;
      for (int k = 0; k < kCount; ++k) {
        const float g = gates.get(k), u = ups.get(k), d = gradients.get(k);
        const float s = sigmoid(g);
        to_up.set(k, d * (g * s));
        to_gate.set(k, d * u * (s * (1.0f + g * (1.0f - s))));
      }
      store_vector(dup, to, to_up);
      store_vector(dgate, to, to_gate);
    });
  }
};

// A dense matrix of rows of `width`, copied to rows `stride` apart.
template <typename T>
struct PlaceColumns {
  const T* from;
  T* to;
  std::int64_t width;
  std::int64_t stride;
  Tiles tiles;

  PlaceColumns() = default;
  PlaceColumns(const T* source, T* target, std::int64_t rows, std::int64_t num_columns,
               std::int64_t to_stride)
      : from(source),
        to(target),
        width(num_columns),
        stride(to_stride),
        tiles(Tiles::of_vectors<T>(rows, width, hold_vectors(from, to) && fill_vectors<T>(width, stride))) {}

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    tiles.each<T>(group, block, [&](std::int64_t row, std::int64_t column, auto constant) {
      constexpr int kCount = decltype(constant)::value;
      store_vector(to, row * stride + column, load_vector<kCount>(from, row * width + column));
    });
  }
};

}  // namespace autoglm::ops::cuda
