#include "trainer/ops/embedding.h"

#include "trainer/ops/elementwise_cuda.h"
#include "trainer/ops/graph.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// The rows that ids count.
at::Tensor rows_from(const at::Tensor& table, std::int64_t first_row) {
  return table.narrow(0, first_row, table.size(0) - first_row);
}

struct EmbeddingNode final : Node {
  at::Tensor ids;
  Parameter* table = nullptr;
  std::int64_t first_row = 0;

  variable_list apply(variable_list&& gradients) override {
    if (table->trainable()) accumulate(gradients[0].contiguous());
    return {at::Tensor()};
  }
  void release_variables() override { ids.reset(); }

 private:
  // Tokens are added in order, so that a repeated id sums the same way every time.
  void accumulate(const at::Tensor& dy) {
    const at::Tensor gradient = rows_from(table->gradient(), first_row);
    if (target_of(dy) == Target::cuda) {
      embedding_backward_cuda(dy, ids, gradient);
      return;
    }
    if (!computes(dy)) return;
    const std::int64_t width = gradient.size(1);
    with_activation_type(dy, [&](auto type) {
      using T = decltype(type);
      std::vector<float> line(static_cast<std::size_t>(width));
      for (std::int64_t token = 0; token < ids.numel(); ++token) {
        simd::activation_kernels<T>().widen(read_pointer<T>(dy) + token * width, line.data(), width);
        simd::float_kernels().accumulate(
            line.data(), write_pointer<float>(gradient) + read_pointer<std::int64_t>(ids)[token] * width,
            width);
      }
    });
  }
};

}  // namespace

at::Tensor embedding(const at::Tensor& ids, Parameter& table, const at::Tensor& anchor,
                     std::int64_t first_row) {
  const bool record = recording({anchor});
  const at::NoGradGuard no_grad;
  const at::Tensor weight = rows_from(table.weight(), first_row);
  const std::int64_t width = weight.size(1);
  at::Tensor y = at::empty({ids.size(0), ids.size(1), width}, weight.options());
  if (computes(y)) {
    if (y.is_cuda()) {
      embedding_forward_cuda(ids, weight, y);
    } else {
      const auto row_bytes = static_cast<std::size_t>(width) * weight.element_size();
      const char* rows = static_cast<const char*>(weight.const_data_ptr());
      char* out = static_cast<char*>(y.mutable_data_ptr());
      for (std::int64_t token = 0; token < ids.numel(); ++token) {
        const std::int64_t id = read_pointer<std::int64_t>(ids)[token];
        AUTOGLM_CHECK(id >= 0 && id < weight.size(0), "id {} of a table of {}", id, weight.size(0));
        std::copy_n(rows + static_cast<std::size_t>(id) * row_bytes, row_bytes,
                    out + static_cast<std::size_t>(token) * row_bytes);
      }
    }
  }
  if (record) {
    auto node = make_node<EmbeddingNode>({anchor});
    node->ids = ids;
    node->table = &table;
    node->first_row = first_row;
    attach(y, node);
  }
  return y;
}

}  // namespace autoglm::ops
