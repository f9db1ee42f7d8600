#include "trainer/ops/rotary.h"

#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"

namespace autoglm::ops {

void rotary_cuda(const at::Tensor& x, const at::Tensor& positions, const RotaryTable& table, float sign,
                 at::Tensor& y) {
  if (!computes(x)) return count_kernel(WorkKind::rotary, {x, positions}, {y});
  const std::int64_t tokens = x.size(0) * x.size(1), heads = x.size(2), head_dim = x.size(3);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const cuda::Heads<T> part{read_pointer<T>(x), write_pointer<T>(y), heads, heads * head_dim,
                              heads * head_dim};
    const cuda::Angles angles{read_pointer<float>(table.cosine),
                              read_pointer<float>(table.sine),
                              table.num_pairs(),
                              table.num_positions(),
                              sign,
                              table.interleaved};
    const cuda::Rotate<T> kernel(part, {}, {}, read_pointer<std::int32_t>(positions), angles, tokens,
                                 head_dim);
    cuda::run(kernel, kernel.tiles.blocks(), x);
  });
}

}  // namespace autoglm::ops
