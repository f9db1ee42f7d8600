#include "trainer/ops/embedding.h"

#include "sharding/memory/category.h"
#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"

namespace autoglm::ops {

using cuda::blocks_for;
using cuda::run;

void embedding_forward_cuda(const at::Tensor& ids, const at::Tensor& table, at::Tensor& y) {
  if (!computes(y)) return count_kernel(WorkKind::embedding, {ids, y}, {y});
  with_activation_type(table, [&](auto type) {
    using T = decltype(type);
    run(cuda::GatherRows<T, std::int64_t>{read_pointer<T>(table), read_pointer<std::int64_t>(ids),
                                          write_pointer<T>(y), table.size(1), table.size(0)},
        ids.numel(), table);
  });
}

namespace {

// Every token's row of the gradient is read and written, as if no id came twice.
void count_backward(const at::Tensor& dy, const at::Tensor& ids, const at::Tensor& places) {
  const std::int64_t rows = dy.numel() * static_cast<std::int64_t>(sizeof(float));
  count_kernel(WorkKind::embedding, {ids}, {places});
  count_work(WorkKind::embedding, {bytes_of(dy) + bytes_of(ids) + bytes_of(places) + rows, rows, 1, 0});
}

}  // namespace

void embedding_backward_cuda(const at::Tensor& dy, const at::Tensor& ids, const at::Tensor& gradient) {
  const std::int64_t count = ids.numel();
  const CategoryScope scope(MemoryCategory::workspace);
  at::Tensor places = at::empty({2, count}, ids.options().dtype(at::kInt));
  if (!computes(dy)) return count_backward(dy, ids, places);
  auto* order = write_pointer<std::int32_t>(places);
  run(cuda::OrderByIds{read_pointer<std::int64_t>(ids), order, order + count, count},
      blocks_for(count, cuda::kThreads), dy);
  const std::int64_t width = gradient.size(1);
  with_activation_type(dy, [&](auto type) {
    using T = decltype(type);
    run(cuda::EmbeddingBackward<T>{read_pointer<T>(dy), read_pointer<std::int64_t>(ids), order, order + count,
                                   write_pointer<float>(gradient), width, gradient.size(0)},
        cuda::EmbeddingBackward<T>::blocks(count, width), dy);
  });
}

}  // namespace autoglm::ops
