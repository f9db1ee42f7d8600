#include "trainer/ops/embedding.h"

#include "trainer/ops/graph.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// The rows that ids count.
at::Tensor rows_from(const at::Tensor& table, std::int64_t first_row) {
  return table.narrow(0, first_row, table.size(0) - first_row);
}

void embedding_forward_cpu(const at::Tensor& ids, const at::Tensor& table, at::Tensor& y) {
  const std::size_t row_bytes = static_cast<std::size_t>(table.size(1)) * table.element_size();
  const char* rows = static_cast<const char*>(table.const_data_ptr());
  char* out = static_cast<char*>(y.mutable_data_ptr());
  for (std::int64_t token = 0; token < ids.numel(); ++token) {
    const std::int64_t id = read_pointer<std::int64_t>(ids)[token];
    AUTOGLM_CHECK(id >= 0 && id < table.size(0), "id {} of a table of {}", id, table.size(0));
    std::copy_n(rows + static_cast<std::size_t>(id) * row_bytes, row_bytes,
                out + static_cast<std::size_t>(token) * row_bytes);
  }
}

// Tokens are added in order, so that a repeated id sums the same way every time.
void embedding_backward_cpu(const at::Tensor& dy, const at::Tensor& ids, const at::Tensor& gradient) {
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

struct EmbeddingNode final : Node {
  at::Tensor ids;
  Parameter* table = nullptr;
  std::int64_t first_row = 0;

  variable_list apply(variable_list&& gradients) override {
    if (table->trainable()) {
      const at::Tensor dy = gradients[0].contiguous();
      route(dy, embedding_backward_cpu, embedding_backward_cuda)(dy, ids,
                                                                 rows_from(table->gradient(), first_row));
    }
    return {at::Tensor()};
  }
  void release_variables() override { ids.reset(); }
};

}  // namespace

at::Tensor embedding(const at::Tensor& ids, Parameter& table, const at::Tensor& anchor,
                     std::int64_t first_row) {
  const bool record = recording({anchor});
  const at::NoGradGuard no_grad;
  const at::Tensor weight = rows_from(table.weight(), first_row);
  at::Tensor y = at::empty({ids.size(0), ids.size(1), weight.size(1)}, weight.options());
  if (runs(y)) route(y, embedding_forward_cpu, embedding_forward_cuda)(ids, weight, y);
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
