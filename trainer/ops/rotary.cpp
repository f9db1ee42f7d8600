#include "trainer/ops/rotary_heads.h"

#include <cmath>

#include "base/error.h"
#include "sharding/memory/category.h"
#include "trainer/ops/graph.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

void rotary_cpu(const at::Tensor& x, const at::Tensor& positions, const RotaryTable& table, float sign,
                at::Tensor& y) {
  const std::int64_t tokens = x.size(0) * x.size(1), heads = x.size(2), head_dim = x.size(3);
  const std::int64_t pairs = table.num_pairs();
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    for_each_row(tokens, 16, [&](std::int64_t token) {
      const std::int64_t position = read_pointer<std::int32_t>(positions)[token];
      AUTOGLM_CHECK(position >= 0 && position < table.num_positions(), "position {}", position);
      const float* cosine = read_pointer<float>(table.cosine) + position * pairs;
      const float* sine = read_pointer<float>(table.sine) + position * pairs;
      for (std::int64_t head = 0; head < heads; ++head) {
        const T* from = read_pointer<T>(x) + (token * heads + head) * head_dim;
        T* to = write_pointer<T>(y) + (token * heads + head) * head_dim;
        kernels.rotate(from, to, cosine, sine, pairs, sign, table.interleaved);
        std::copy(from + 2 * pairs, from + head_dim, to + 2 * pairs);
      }
    });
  });
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& positions, const RotaryTable& table, float sign) {
  at::Tensor y = at::empty_like(x);
  if (runs(x)) route(x, rotary_cpu, rotary_cuda)(x, positions, table, sign, y);
  return y;
}

struct RotaryNode final : Node {
  at::Tensor positions;
  RotaryTable table;

  variable_list apply(variable_list&& gradients) override {
    const at::Tensor dy = std::exchange(gradients[0], at::Tensor()).contiguous();
    return {rotate(dy, positions, table, -1)};
  }
  void release_variables() override { positions.reset(); }
};

// Of queries, keys and values, on CUDA.
struct RotaryHeadsNode final : Node {
  at::Tensor positions;
  RotaryTable table;

  variable_list apply(variable_list&& gradients) override {
    std::int64_t width = 0;
    for (at::Tensor& gradient : gradients) {
      AUTOGLM_CHECK(gradient.defined(), "heads were not used");
      gradient = gradient.contiguous();
      width += gradient.size(2) * gradient.size(3);
    }
    const at::Tensor& dq = gradients[0];
    const at::Tensor all = at::empty({dq.size(0) * dq.size(1), width}, dq.options());
    variable_list result;
    std::int64_t column = 0;
    for (const at::Tensor& gradient : gradients) {
      const std::int64_t columns = gradient.size(2) * gradient.size(3);
      result.push_back(all.narrow(1, column, columns).view(gradient.sizes()));
      column += columns;
    }
    rotary_heads_cuda(gradients, positions, table, -1, result);
    return result;
  }
  void release_variables() override { positions.reset(); }
};

}  // namespace

RotaryTable make_rotary_table(const RotarySpec& spec, std::int64_t num_positions, at::Device device) {
  const CategoryScope scope(MemoryCategory::data);
  const auto pairs = static_cast<std::int64_t>(spec.inverse_frequencies.size());
  const at::TensorOptions options = at::TensorOptions().dtype(at::kFloat);
  RotaryTable table{at::empty({num_positions, pairs}, options.device(device)),
                    at::empty({num_positions, pairs}, options.device(device)), spec.interleaved};
  if (device.is_meta()) return table;
  const bool on_host = device.is_cpu();
  at::Tensor cosine = on_host ? table.cosine : at::empty({num_positions, pairs}, options);
  at::Tensor sine = on_host ? table.sine : at::empty({num_positions, pairs}, options);
  for (std::int64_t position = 0; position < num_positions; ++position) {
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
      const float angle =
          static_cast<float>(position) * spec.inverse_frequencies[static_cast<std::size_t>(pair)];
      write_pointer<float>(cosine)[position * pairs + pair] = std::cos(angle) * spec.attention_factor;
      write_pointer<float>(sine)[position * pairs + pair] = std::sin(angle) * spec.attention_factor;
    }
  }
  if (!on_host) {
    table.cosine.copy_(cosine);
    table.sine.copy_(sine);
  }
  return table;
}

at::Tensor rotary(const at::Tensor& x, const at::Tensor& positions, const RotaryTable& table) {
  AUTOGLM_CHECK(2 * table.num_pairs() <= x.size(3));
  const bool record = recording({x});
  const at::NoGradGuard no_grad;
  at::Tensor y = rotate(x.detach().contiguous(), positions, table, 1);
  if (record) {
    auto node = make_node<RotaryNode>({x});
    node->positions = positions;
    node->table = table;
    attach(y, node);
  }
  return y;
}

std::vector<at::Tensor> rotary_heads(const std::vector<at::Tensor>& qkv, const at::Tensor& positions,
                                     const RotaryTable& table) {
  if (target_of(qkv[0]) != Target::cuda)
    return {rotary(qkv[0], positions, table), rotary(qkv[1], positions, table), qkv[2]};
  const bool record = recording({qkv[0], qkv[1], qkv[2]});
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> turned;
  for (const at::Tensor& heads : qkv) turned.push_back(heads.detach());
  const std::span<const at::Tensor> q_and_k(turned.data(), 2);
  rotary_heads_cuda(q_and_k, positions, table, 1, q_and_k);
  if (!record) return turned;
  auto node = make_node<RotaryHeadsNode>(qkv);
  node->positions = positions;
  node->table = table;
  for (at::Tensor& heads : turned) attach(heads, node);
  return turned;
}

}  // namespace autoglm::ops
