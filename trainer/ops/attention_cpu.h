// The CPU route of attention.h. Heads of one token lie side by side: element (token, head, d) of q is at
// (token * num_heads + head) * head_dim + d.
#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/ops/attention.h"

namespace autoglm::ops {

struct AttentionShape {
  std::int64_t num_heads;  // of queries
  std::int64_t num_key_heads;
  std::int64_t head_dim;
  std::int64_t length;  // tokens of a row
  float scale;
};

// fp32 elements of scratch space that each thread needs.
std::int64_t attention_forward_scratch(const AttentionShape& shape);
std::int64_t attention_backward_scratch(const AttentionShape& shape);

// statistics: fp32 [2, B, N, T], for each query the largest scaled score and the reciprocal of the sum of
// exponentials beside it: together more exact than the logarithm of the sum. scratch: fp32 [threads,
// attention_forward_scratch()].
void attention_forward_cpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const PackedRows& rows, const AttentionShape& shape, at::Tensor& out,
                           at::Tensor& statistics, at::Tensor& scratch);
void attention_backward_cpu(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const at::Tensor& statistics, const PackedRows& rows,
                            const AttentionShape& shape, at::Tensor& dq, at::Tensor& dk, at::Tensor& dv,
                            at::Tensor& scratch);

// One query token against `num_keys` cached ones.
void attention_step_cpu(const at::Tensor& q, const KeyValueCache& cache, std::int64_t num_keys,
                        std::int64_t token, const AttentionShape& shape, at::Tensor& out);

}  // namespace autoglm::ops
