#include "trainer/ops/rotary.h"

#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"

namespace autoglm::ops {

using cuda::blocks_for;
using cuda::kBlockElements;
using cuda::run;

void rotary_cuda(const at::Tensor& x, const at::Tensor& positions, const RotaryTable& table, float sign,
                 at::Tensor& y) {
  if (!computes(x)) return count_kernel(WorkKind::rotary, {x, positions}, {y});
  const std::int64_t heads = x.size(2), head_dim = x.size(3), pairs = table.num_pairs();
  const std::int64_t count = x.size(0) * x.size(1) * heads * (head_dim - pairs);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::Rotate<T>{read_pointer<T>(x), write_pointer<T>(y), read_pointer<std::int32_t>(positions),
                        read_pointer<float>(table.cosine), read_pointer<float>(table.sine), count, heads,
                        head_dim, pairs, table.num_positions(), sign, table.interleaved},
        blocks_for(count, kBlockElements), x);
  });
}

}  // namespace autoglm::ops
