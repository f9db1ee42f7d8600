#include "trainer/ops/attention.h"

#include "base/error.h"
#include "trainer/ops/attention_routes.h"
#include "trainer/ops/graph.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// As the route reads it: dense, but on CUDA tokens may lie apart.
at::Tensor heads_of(const at::Tensor& x) {
  const at::Tensor heads = x.detach();
  const bool apart = target_of(x) == Target::cuda && x.stride(3) == 1 && x.stride(2) == x.size(3) &&
                     x.stride(0) == x.size(1) * x.stride(1);
  return apart ? heads : heads.contiguous();
}

struct AttentionNode final : Node {
  at::Tensor q, k, v;
  AttentionForward forward;  // `out` only for CUDA's backward
  PackedRows rows;
  float scale = 1;

  variable_list apply(variable_list&& gradients) override {
    const at::Tensor dout = std::exchange(gradients[0], at::Tensor()).contiguous();
    const AttentionGradients result =
        route(q, attention_backward_cpu, attention_backward_cuda)(dout, q, k, v, forward, rows, scale);
    return {result.dq, result.dk, result.dv};
  }
  void release_variables() override {
    for (at::Tensor* saved : {&q, &k, &v, &forward.out, &forward.statistics}) saved->reset();
  }
};

}  // namespace

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const PackedRows& rows, float scale) {
  const bool record = recording({query, key, value});
  const at::NoGradGuard no_grad;
  const at::Tensor q = heads_of(query), k = heads_of(key), v = heads_of(value);
  AUTOGLM_CHECK(q.size(2) % k.size(2) == 0, "{} query heads, {} key heads", q.size(2), k.size(2));
  AttentionForward forward = route(q, attention_forward_cpu, attention_forward_cuda)(q, k, v, rows, scale);
  at::Tensor out = std::exchange(forward.out, at::Tensor());
  if (!record) return out;
  auto node = make_node<AttentionNode>({query, key, value});
  node->q = q;
  node->k = k;
  node->v = v;
  node->forward = forward;
  if (target_of(q) == Target::cuda) node->forward.out = out.detach();
  node->rows = rows;
  node->scale = scale;
  attach(out, node);
  return out;
}

at::Tensor attention_with_cache(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                KeyValueCache& cache, std::int64_t past, float scale) {
  AUTOGLM_CHECK(query.size(0) == 1 && past + query.size(1) <= cache.key.size(1), "the cache is too short");
  const std::int64_t tokens = query.size(1);
  cache.key.narrow(1, past, tokens).copy_(key);
  cache.value.narrow(1, past, tokens).copy_(value);
  at::Tensor out = at::empty(query.sizes(), query.options());
  if (computes(query)) {
    route(query, attention_with_cache_cpu, attention_with_cache_cuda)(query, cache, past, scale, out);
  }
  return out;
}

}  // namespace autoglm::ops
