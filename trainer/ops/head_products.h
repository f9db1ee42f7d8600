// The products of the vocabulary matrix on the CPU, for one chunk of tokens after another.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "trainer/ops/parameter.h"

namespace autoglm::ops {

// Holds what its products need, for chunks of up to `chunk` tokens: allocated when it is made, in the category that is
// set then. V is the vocabulary, W the width of features.
class HeadProducts {
 public:
  virtual ~HeadProducts() = default;

  // logits fp32 [count of chunk rows, V] = features [count, W] @ weight [V, W]^T. Rows of both tensors behind `count`
  // may be read and written.
  virtual void logits(const at::Tensor& features_CW, std::int64_t count, at::Tensor& logits_CV) = 0;

  // dfeatures [count, W] in the features' dtype = dlogits @ weight, and, where the matrix is trainable, its gradient +=
  // dlogits^T @ features. What logits() got last are the features; dlogits may be overwritten.
  virtual void backward(const at::Tensor& features_CW, std::int64_t count, at::Tensor& dlogits_CV,
                        at::Tensor& dfeatures_CW) = 0;
};

// By the process's route, on the device of `like`, whose dtype is the features'. `matrix` is the vocabulary matrix and
// outlives the result.
std::unique_ptr<HeadProducts> make_head_products(const at::Tensor& like, std::int64_t chunk,
                                                 const Parameter& matrix, bool training);

}  // namespace autoglm::ops
