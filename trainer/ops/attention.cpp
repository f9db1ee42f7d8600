#include "trainer/ops/attention.h"

#include "base/error.h"
#include "sharding/memory/category.h"
#include "trainer/ops/attention_cpu.h"
#include "trainer/ops/attention_cuda.h"
#include "trainer/ops/graph.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

AttentionShape shape_of(const at::Tensor& q, const at::Tensor& k, float scale) {
  AUTOGLM_CHECK(q.size(2) % k.size(2) == 0, "{} query heads, {} key heads", q.size(2), k.size(2));
  return {q.size(2), k.size(2), q.size(3), q.size(1), scale};
}

at::Tensor scratch_for(std::int64_t elements_per_thread, const at::Tensor& like) {
  const CategoryScope scope(MemoryCategory::workspace);
  return at::empty({at::get_num_threads(), elements_per_thread}, like.options().dtype(at::kFloat));
}

struct AttentionNode final : Node {
  at::Tensor q, k, v;
  at::Tensor out;         // only for CUDA's backward
  at::Tensor statistics;  // of each query's softmax
  PackedRows rows;
  AttentionShape shape{};

  variable_list apply(variable_list&& gradients) override {
    const at::Tensor dout = std::exchange(gradients[0], at::Tensor()).contiguous();
    if (target_of(q) == Target::cuda) {
      AttentionGradients result =
          attention_backward_cuda(dout, q, k, v, {out, statistics}, rows, shape.scale);
      return {result.dq, result.dk, result.dv};
    }
    at::Tensor dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(v);
    at::Tensor scratch = scratch_for(attention_backward_scratch(shape), q);
    if (computes(q)) attention_backward_cpu(dout, q, k, v, statistics, rows, shape, dq, dk, dv, scratch);
    return {dq, dk, dv};
  }
  void release_variables() override {
    for (at::Tensor* saved : {&q, &k, &v, &out, &statistics}) saved->reset();
  }
};

}  // namespace

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const PackedRows& rows, float scale) {
  const bool record = recording({query, key, value});
  const at::NoGradGuard no_grad;
  const at::Tensor q = query.detach().contiguous(), k = key.detach().contiguous(),
                   v = value.detach().contiguous();
  const AttentionShape shape = shape_of(q, k, scale);
  const bool on_cuda = target_of(q) == Target::cuda;
  at::Tensor out, statistics;
  if (on_cuda) {
    AttentionForward result = attention_forward_cuda(q, k, v, rows, scale);
    out = result.out;
    statistics = result.log_sum;
  } else {
    out = at::empty_like(q);
    statistics = at::empty({2, q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat));
    at::Tensor scratch = scratch_for(attention_forward_scratch(shape), q);
    if (computes(q)) attention_forward_cpu(q, k, v, rows, shape, out, statistics, scratch);
  }
  if (!record) return out;
  auto node = make_node<AttentionNode>({query, key, value});
  node->q = q;
  node->k = k;
  node->v = v;
  if (on_cuda) node->out = out.detach();
  node->statistics = statistics;
  node->rows = rows;
  node->shape = shape;
  attach(out, node);
  return out;
}

at::Tensor attention_with_cache(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                KeyValueCache& cache, std::int64_t past, float scale) {
  AUTOGLM_CHECK(query.size(0) == 1 && past + query.size(1) <= cache.key.size(1), "the cache is too short");
  const std::int64_t tokens = query.size(1);
  cache.key.narrow(1, past, tokens).copy_(key);
  cache.value.narrow(1, past, tokens).copy_(value);
  at::Tensor out = at::empty_like(query);
  if (!computes(query)) return out;
  if (query.is_cuda()) {
    attention_with_cache_cuda(query, cache, past, scale, out);
    return out;
  }
  const AttentionShape shape = shape_of(query, key, scale);
  for (std::int64_t token = 0; token < tokens; ++token) {
    attention_step_cpu(query, cache, past + token + 1, token, shape, out);
  }
  return out;
}

}  // namespace autoglm::ops
