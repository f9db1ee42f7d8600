// The kernels of the CUDA route of LayerNorm. As in cuda_kernels.h.
#pragma once

#include "trainer/ops/cuda_group.h"

namespace autoglm::ops::cuda {

template <typename T>
AUTOGLM_HOST_DEVICE inline float layer_normed_element(const T* x, const T* weight, const T* bias,
                                                      std::int64_t i, float mean, float rstd) {
  return (load(x, i) - mean) * rstd * load(weight, i) + load(bias, i);
}

// Block: a row of x [rows, width]; its mean and 1 / deviation.
template <typename T>
struct LayerNormForward {
  const T* x;
  const T* weight;
  const T* bias;
  T* y;
  float* mean;
  float* rstd;
  std::int64_t width;
  float epsilon;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const T* from = x + row * width;
    T* to = y + row * width;
    double values = 0, squares = 0;
    each(group, 0, width, [&](std::int64_t i) { values += static_cast<double>(load(from, i)); });
    const float center = static_cast<float>(group.sum(values)) / static_cast<float>(width);
    each(group, 0, width, [&](std::int64_t i) {
      const float distance = load(from, i) - center;
      squares += static_cast<double>(distance * distance);
    });
    const float variance = static_cast<float>(group.sum(squares)) / static_cast<float>(width);
    const float scale = 1.0f / std::sqrt(variance + epsilon);
    if (group.rank() == 0) {
      mean[row] = center;
      rstd[row] = scale;
    }
    each(group, 0, width,
         [&](std::int64_t i) { store(to, i, layer_normed_element(from, weight, bias, i, center, scale)); });
  }
};

// Block: a row; the same y from known statistics.
template <typename T>
struct LayerNormAgain {
  const T* x;
  const T* weight;
  const T* bias;
  const float* mean;
  const float* rstd;
  T* y;
  std::int64_t width;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const T* from = x + row * width;
    T* to = y + row * width;
    const float center = mean[row], scale = rstd[row];
    each(group, 0, width,
         [&](std::int64_t i) { store(to, i, layer_normed_element(from, weight, bias, i, center, scale)); });
  }
};

// Block: a row of dx.
template <typename T>
struct LayerNormBackward {
  const T* dy;
  const T* x;
  const T* weight;
  const float* mean;
  const float* rstd;
  T* dx;
  std::int64_t width;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const T* from = x + row * width;
    const T* gradient = dy + row * width;
    T* to = dx + row * width;
    const float center = mean[row], scale = rstd[row];
    const auto normed = [&](std::int64_t i) { return (load(from, i) - center) * scale; };
    double gradients = 0, products = 0;
    each(group, 0, width, [&](std::int64_t i) {
      const float weighted = load(gradient, i) * load(weight, i);
      gradients += static_cast<double>(weighted);
      products += static_cast<double>(weighted * normed(i));
    });
    const float shift = static_cast<float>(group.sum(gradients)) / static_cast<float>(width);
    const float shrink = static_cast<float>(group.sum(products)) / static_cast<float>(width);
    each(group, 0, width, [&](std::int64_t i) {
      store(to, i, scale * (load(gradient, i) * load(weight, i) - shift - normed(i) * shrink));
    });
  }
};

}  // namespace autoglm::ops::cuda
