// The kernels of the ops' CUDA routes. Pointers are to device memory (to host memory when run on the host);
// T is float or bf16_bits, the storage type of activations. Arithmetic is fp32, long sums are fp64 and in a
// fixed order. Formulas are those of simd/kernels.h.
#pragma once

#include "trainer/ops/cuda_column_sums_kernels.h"
#include "trainer/ops/cuda_elementwise_kernels.h"
#include "trainer/ops/cuda_group.h"
#include "trainer/ops/cuda_join_kernels.h"
#include "trainer/ops/cuda_layer_norm_kernels.h"
#include "trainer/ops/cuda_norm_kernels.h"
#include "trainer/ops/cuda_rotary_kernels.h"
#include "trainer/ops/cuda_row_kernels.h"
#include "trainer/ops/cuda_softmax_kernels.h"

namespace autoglm::ops::cuda {

// X(kernel type) for every kernel there is: what is compiled for the device.
#define AUTOGLM_EACH_CUDA_KERNEL(X)         \
  AUTOGLM_EACH_CUDA_KERNEL_OF(X, float)     \
  AUTOGLM_EACH_CUDA_KERNEL_OF(X, bf16_bits) \
  X(AddSlabs) X(OrderByIds) X(AttentionSoftmax) X(AttentionSoftmaxBackward)
#define AUTOGLM_EACH_CUDA_KERNEL_OF(X, T)                                                                   \
  X(RmsNormForward<T>)                                                                                      \
  X(RmsNormAgain<T>)                                                                                        \
  X(RmsNormBackward<T>)                                                                                     \
  X(JoinRmsNorm<T>) X(JoinLayerNorm<T>) X(JoinRmsNormBackward<T>) X(SlabSums<T>) X(SwigluForward<T>)        \
      X(SwigluBackward<T>) X(Rotate<T>) X(ScatterRows<T>) X(EmbeddingBackward<T>) X(CrossEntropy<T>)        \
          X(LayerNormForward<T>) X(LayerNormAgain<T>) X(LayerNormBackward<T>) X(Relu<T>) X(ReluBackward<T>) \
              X(PlaceColumns<T>) X(GatherRows<T, std::int32_t>) X(GatherRows<T, std::int64_t>)

}  // namespace autoglm::ops::cuda
