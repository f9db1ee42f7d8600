#include "trainer/ops/rotary_heads.h"

#include "base/error.h"
#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"

namespace autoglm::ops {
namespace {

std::int64_t token_stride(const at::Tensor& x) {
  AUTOGLM_CHECK(x.stride(3) == 1 && x.stride(2) == x.size(3) && x.stride(0) == x.size(1) * x.stride(1),
                "heads that lie apart");
  return x.stride(1);
}

template <typename T>
cuda::Heads<T> part(std::span<const at::Tensor> from, std::span<const at::Tensor> to, std::size_t i) {
  if (i >= from.size()) return {};
  return {read_pointer<T>(from[i]), write_pointer<T>(to[i]), from[i].size(2), token_stride(from[i]),
          token_stride(to[i])};
}

// What does not turn is not touched where `to` is `from`.
void count(std::span<const at::Tensor> from, const at::Tensor& positions, const RotaryTable& table,
           bool in_place) {
  std::int64_t bytes = bytes_of(from);
  if (in_place) bytes = bytes * 2 * table.num_pairs() / from[0].size(3);
  count_work(WorkKind::rotary, {bytes + bytes_of(positions), bytes, 1, 0});
}

}  // namespace

void rotary_cuda(const at::Tensor& x, const at::Tensor& positions, const RotaryTable& table, float sign,
                 at::Tensor& y) {
  rotary_heads_cuda({&x, 1}, positions, table, sign, {&y, 1});
}

void rotary_heads_cuda(std::span<const at::Tensor> from, const at::Tensor& positions,
                       const RotaryTable& table, float sign, std::span<const at::Tensor> to) {
  const at::Tensor& x = from[0];
  if (!computes(x)) return count(from, positions, table, x.is_same(to[0]));
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const cuda::Angles angles{read_pointer<float>(table.cosine),
                              read_pointer<float>(table.sine),
                              table.num_pairs(),
                              table.num_positions(),
                              sign,
                              table.interleaved};
    const cuda::Rotate<T> kernel(part<T>(from, to, 0), part<T>(from, to, 1), part<T>(from, to, 2),
                                 read_pointer<std::int32_t>(positions), angles, x.size(0) * x.size(1),
                                 x.size(3));
    cuda::run(kernel, kernel.tiles.blocks(), x);
  });
}

}  // namespace autoglm::ops
