// Linear layers by parameter handle, alone or together with what feeds them.
//
// A linear layer must keep its input for the weight's gradient. Where that input is the result of a norm or
// of SwiGLU it can be rebuilt from what those keep anyway: `keep_input` = false (recompute level "cheap")
// leaves it out and rebuilds it in the backward, to the bit.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "trainer/ops/norm.h"
#include "trainer/ops/projection.h"
#include "trainer/ops/residual.h"

namespace autoglm::ops {

// x [..., K] @ weight^T + bias: [..., N].
at::Tensor linear(const at::Tensor& x, const Projection& projection);

// Where a branch begins: the stream [..., K] with what joined it, and every projection [..., N_i] of its norm.
struct NormLinear {
  at::Tensor stream;
  std::vector<at::Tensor> outputs;
};
// In the backward the stream's own gradient and that of the branch meet in the norm; a stream that nobody goes on with
// has none. Hand over what `residual` holds: it is let go before the products.
NormLinear norm_linear(Residual residual, const Norm& norm, std::span<const Projection> projections,
                       bool keep_input);

// The projection of silu(gate) * up. `gate_up` is one tensor [..., 2 F] (gate in the first half of each row)
// or two of [..., F], gate first.
at::Tensor swiglu_linear(const std::vector<at::Tensor>& gate_up, const Projection& projection,
                         bool keep_input);

// The projection of max(x, 0). x [..., K] is overwritten: nothing else may read it. The rectified x is all
// that is kept, for both backwards.
at::Tensor relu_linear(const at::Tensor& x, const Projection& projection);

}  // namespace autoglm::ops
