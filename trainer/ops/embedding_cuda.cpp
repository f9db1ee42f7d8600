#include "trainer/ops/embedding.h"

#include "sharding/memory/category.h"
#include "trainer/ops/cuda_launch.h"

namespace autoglm::ops {

using cuda::blocks_for;
using cuda::kBlockElements;
using cuda::run;

void embedding_forward_cuda(const at::Tensor& ids, const at::Tensor& table, at::Tensor& y) {
  with_activation_type(table, [&](auto type) {
    using T = decltype(type);
    run(cuda::GatherRows<T, std::int64_t>{read_pointer<T>(table), read_pointer<std::int64_t>(ids),
                                          write_pointer<T>(y), table.size(1), table.size(0)},
        ids.numel(), table);
  });
}

void embedding_backward_cuda(const at::Tensor& dy, const at::Tensor& ids, const at::Tensor& gradient) {
  const std::int64_t count = ids.numel();
  const CategoryScope scope(MemoryCategory::workspace);
  at::Tensor links = at::empty({2, count}, ids.options().dtype(at::kInt));
  if (!computes(dy)) return;
  auto* next = write_pointer<std::int32_t>(links);
  run(cuda::LinkEqualIds{read_pointer<std::int64_t>(ids), next, next + count, count},
      blocks_for(count, kBlockElements), dy);
  with_activation_type(dy, [&](auto type) {
    using T = decltype(type);
    run(cuda::EmbeddingBackward<T>{read_pointer<T>(dy), read_pointer<std::int64_t>(ids), next, next + count,
                                   write_pointer<float>(gradient), gradient.size(1), gradient.size(0)},
        count, dy);
  });
}

}  // namespace autoglm::ops
