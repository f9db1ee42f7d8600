#include "trainer/ops/elementwise_cuda.h"

#include "sharding/memory/category.h"
#include "trainer/ops/cuda_launch.h"

namespace autoglm::ops {

using cuda::blocks_for;
using cuda::kBlockElements;
using cuda::kThreads;
using cuda::run;

void rms_norm_forward_cuda(const at::Tensor& x, const at::Tensor& weight, double epsilon, at::Tensor& y,
                           at::Tensor& rstd) {
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::RmsNormForward<T>{read_pointer<T>(x), read_pointer<T>(weight), write_pointer<T>(y),
                                write_pointer<float>(rstd), x.size(1), static_cast<float>(epsilon)},
        x.size(0), x);
  });
}

void rms_norm_again_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                         at::Tensor& y) {
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::RmsNormAgain<T>{read_pointer<T>(x), read_pointer<T>(weight), read_pointer<float>(rstd),
                              write_pointer<T>(y), x.size(1)},
        x.size(0), x);
  });
}

void rms_norm_backward_cuda(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& rstd, at::Tensor& dx, const at::Tensor& dweight) {
  if (dweight.defined()) add_column_sums_cuda(dy, x, rstd, dweight);
  if (!computes(x)) return;
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::RmsNormBackward<T>{read_pointer<T>(dy), read_pointer<T>(x), read_pointer<T>(weight),
                                 read_pointer<float>(rstd), write_pointer<T>(dx), x.size(1)},
        x.size(0), x);
  });
}

void layer_norm_forward_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             double epsilon, at::Tensor& y, at::Tensor& statistics) {
  const std::int64_t rows = x.size(0);
  auto* means = write_pointer<float>(statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::LayerNormForward<T>{read_pointer<T>(x), read_pointer<T>(weight), read_pointer<T>(bias),
                                  write_pointer<T>(y), means, means + rows, x.size(1),
                                  static_cast<float>(epsilon)},
        rows, x);
  });
}

void layer_norm_again_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& statistics, at::Tensor& y) {
  const std::int64_t rows = x.size(0);
  const auto* means = read_pointer<float>(statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::LayerNormAgain<T>{read_pointer<T>(x), read_pointer<T>(weight), read_pointer<T>(bias), means,
                                means + rows, write_pointer<T>(y), x.size(1)},
        rows, x);
  });
}

void layer_norm_backward_cuda(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& statistics, at::Tensor& dx, const at::Tensor& dweight,
                              const at::Tensor& dbias) {
  if (dweight.defined()) add_column_sums_cuda(dy, x, statistics, dweight);
  if (dbias.defined()) add_column_sums_cuda(dy, {}, {}, dbias);
  if (!computes(x)) return;
  const std::int64_t rows = x.size(0);
  const auto* means = read_pointer<float>(statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::LayerNormBackward<T>{read_pointer<T>(dy), read_pointer<T>(x), read_pointer<T>(weight), means,
                                   means + rows, write_pointer<T>(dx), x.size(1)},
        rows, x);
  });
}

void relu_cuda(at::Tensor& x) {
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::Relu<T>{write_pointer<T>(x), x.numel()}, blocks_for(x.numel(), kBlockElements), x);
  });
}

void relu_backward_cuda(const at::Tensor& y, at::Tensor& dy) {
  with_activation_type(y, [&](auto type) {
    using T = decltype(type);
    run(cuda::ReluBackward<T>{read_pointer<T>(y), write_pointer<T>(dy), y.numel()},
        blocks_for(y.numel(), kBlockElements), y);
  });
}

void add_column_sums_cuda(const at::Tensor& y, const at::Tensor& x, const at::Tensor& statistics,
                          const at::Tensor& gradient) {
  const std::int64_t rows = y.size(0), width = y.size(1), slabs = blocks_for(rows, cuda::kSlabRows);
  const CategoryScope scope(MemoryCategory::workspace);
  at::Tensor partial = at::empty({slabs, width}, y.options().dtype(at::kFloat));
  if (!computes(y)) return;
  const auto* rstd = x.defined() ? read_pointer<float>(statistics) : nullptr;
  const float* mean = nullptr;
  if (x.defined() && statistics.dim() == 2) mean = std::exchange(rstd, rstd + rows);
  with_activation_type(y, [&](auto type) {
    using T = decltype(type);
    run(cuda::SlabSums<T>{read_pointer<T>(y), x.defined() ? read_pointer<T>(x) : nullptr, mean, rstd,
                          write_pointer<float>(partial), rows, width},
        cuda::SlabSums<T>::blocks(rows, width), y);
  });
  run(cuda::AddSlabs{read_pointer<float>(partial), write_pointer<float>(gradient), slabs, width},
      blocks_for(width, kThreads), y);
}

namespace {

// Rows of gate and up, in one tensor or in two, as in linear.h.
struct GateUpRows {
  std::int64_t stride;
  std::int64_t width;
  std::int64_t up_offset;
  std::int64_t count;

  explicit GateUpRows(const std::vector<at::Tensor>& tensors) : stride(tensors.front().size(1)) {
    const bool fused = tensors.size() == 1;
    width = fused ? stride / 2 : stride;
    up_offset = fused ? width : 0;
    count = tensors.front().size(0) * width;
  }
};

}  // namespace

void swiglu_forward_cuda(const std::vector<at::Tensor>& gate_up, at::Tensor& out) {
  const GateUpRows in(gate_up);
  with_activation_type(out, [&](auto type) {
    using T = decltype(type);
    run(cuda::SwigluForward<T>{read_pointer<T>(gate_up.front()),
                               read_pointer<T>(gate_up.back()) + in.up_offset, write_pointer<T>(out),
                               in.count, in.width, in.stride},
        blocks_for(in.count, kBlockElements), out);
  });
}

void swiglu_backward_cuda(const std::vector<at::Tensor>& gate_up, const at::Tensor& dout,
                          std::vector<at::Tensor>& gradients) {
  const GateUpRows in(gate_up);
  with_activation_type(dout, [&](auto type) {
    using T = decltype(type);
    run(cuda::SwigluBackward<T>{read_pointer<T>(gate_up.front()),
                                read_pointer<T>(gate_up.back()) + in.up_offset, read_pointer<T>(dout),
                                write_pointer<T>(gradients.front()),
                                write_pointer<T>(gradients.back()) + in.up_offset, in.count, in.width,
                                in.stride},
        blocks_for(in.count, kBlockElements), dout);
  });
}

void rotary_cuda(const at::Tensor& x, const at::Tensor& positions, const RotaryTable& table, float sign,
                 at::Tensor& y) {
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
