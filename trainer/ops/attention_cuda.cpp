#include "trainer/ops/attention_routes.h"

#include <ATen/Context.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>

#include "base/math.h"
#include "sharding/memory/category.h"
#include "trainer/ops/attention_calls.h"
#include "trainer/ops/attention_tiled_cuda.h"
#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

bool uses_flash(const at::Tensor& q) {
  return !q.is_cpu() && q.scalar_type() == at::kBFloat16 && q.size(3) % 8 == 0 && q.size(3) <= 256;
}

AttentionShape shape_of(const at::Tensor& q, const at::Tensor& k) {
  const int multiprocessors = q.is_cuda() ? cuda::current_multiprocessors() : rehearsal_multiprocessors();
  return {q.size(0), q.size(1), q.size(2), k.size(2), q.size(3), multiprocessors};
}

at::Tensor empty_offsets(const at::Tensor& q, const AttentionShape& shape) {
  return at::empty({shape.max_documents() + 1}, q.options().dtype(at::kInt));
}

at::Tensor tokens_of(const AttentionCall& call, const at::Tensor& tokens) {
  return tokens.flatten(0, 1).narrow(0, call.begin, call.tokens());
}

// What was read must not change before the copy is done (uploads_wait()).
at::Tensor upload(AttentionCall& call, const at::Tensor& to) {
  const auto count = static_cast<std::int64_t>(call.offsets.size());
  return to.narrow(0, 0, count).copy_(at::from_blob(call.offsets.data(), {count}, at::kInt), !uploads_wait());
}

// Makes FlashAttention sum dq in a fixed order, without the fills that deterministic mode has elsewhere.
class DeterministicScope {
 public:
  DeterministicScope()
      : algorithms_(at::globalContext().deterministicAlgorithms()),
        warn_only_(at::globalContext().deterministicAlgorithmsWarnOnly()),
        fills_(at::globalContext().deterministicFillUninitializedMemory()) {
    at::globalContext().setDeterministicAlgorithms(true, false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  }
  ~DeterministicScope() {
    at::globalContext().setDeterministicAlgorithms(algorithms_, warn_only_);
    at::globalContext().setDeterministicFillUninitializedMemory(fills_);
  }
  DeterministicScope(const DeterministicScope&) = delete;
  DeterministicScope& operator=(const DeterministicScope&) = delete;

 private:
  bool algorithms_, warn_only_, fills_;
};

AttentionForward flash_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const AttentionCall& call, const at::Tensor& offsets, bool causal,
                               float scale) {
  auto [out, log_sum, random_state, unused, mask] = at::_flash_attention_forward(
      tokens_of(call, q), tokens_of(call, k), tokens_of(call, v), offsets, offsets, call.longest,
      call.longest, 0.0, causal, false, static_cast<double>(scale));
  return {out, log_sum};
}

AttentionGradients flash_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                  const at::Tensor& v, const at::Tensor& out, const at::Tensor& log_sum,
                                  const AttentionCall& call, const at::Tensor& offsets, bool causal,
                                  float scale) {
  const DeterministicScope deterministic;
  auto [dq, dk, dv] = at::_flash_attention_backward(
      tokens_of(call, dout), tokens_of(call, q), tokens_of(call, k), tokens_of(call, v), tokens_of(call, out),
      log_sum, offsets, offsets, call.longest, call.longest, 0.0, causal, log_sum, log_sum,
      static_cast<double>(scale));
  return {dq, dk, dv};
}

// Operations of one product of queries with keys, or of scores with values, where rows are whole documents: half
// of the keys are seen.
std::int64_t score_operations(const at::Tensor& q, bool causal) {
  return (causal ? 1 : 2) * q.numel() * q.size(1);
}

// What _flash_attention_forward of LibTorch 2.11 allocates, in its order.
AttentionForward rehearse_forward(const at::Tensor& q, const at::Tensor& k, bool causal) {
  AttentionForward result{dense_like(q),
                          at::empty({q.size(2), q.size(0) * q.size(1)}, q.options().dtype(at::kFloat))};
  const at::Tensor random_state = at::empty({2}, q.options().dtype(at::kLong));
  const at::Tensor unused = at::empty({}, q.options().dtype(at::kLong));
  count_work(WorkKind::attention,
             {bytes_of(q) + 2 * bytes_of(k), bytes_of(result.out) + bytes_of(result.statistics), 1,
              2 * score_operations(q, causal)});
  return result;
}

// The row sums of dout * out; the gradients, five products; dq from its partial sums, which were zeroed. Where keys
// are shared by heads, their gradients are summed.
void count_backward(const at::Tensor& q, const at::Tensor& k, bool causal, const at::Tensor& row_sums,
                    const at::Tensor& partial) {
  const std::int64_t queries = bytes_of(q), keys = bytes_of(k), sums = bytes_of(row_sums),
                     dq = bytes_of(partial);
  const bool shared = k.size(2) != q.size(2);
  const std::int64_t dkeys = shared ? 2 * queries : 2 * keys;
  count_work(WorkKind::attention, {2 * queries, sums, 1, 0});
  count_work(WorkKind::attention, {0, dq, 1, 0});
  count_work(WorkKind::attention,
             {2 * queries + 2 * keys + 2 * sums + dq, dq + dkeys, 1, 5 * score_operations(q, causal)});
  count_work(WorkKind::attention, {dq, queries, 1, 0});
  if (shared) count_work(WorkKind::attention, {dkeys, 2 * keys, 2, 0});
}

// What _flash_attention_backward of LibTorch 2.11 allocates at most, in its order.
AttentionGradients rehearse_backward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     bool causal) {
  const std::int64_t tokens = q.size(0) * q.size(1), heads = q.size(2), head_dim = q.size(3);
  const AttentionShape shape = shape_of(q, k);
  AttentionGradients result{dense_like(q), dense_like(k), dense_like(v)};
  const at::TensorOptions fp32 = q.options().dtype(at::kFloat);
  const at::Tensor row_sums = at::empty({heads, tokens + 128 * shape.max_documents()}, fp32);
  const at::Tensor partial =
      at::empty({backward_partial_rows(shape), heads, rounded_head_dim(head_dim)}, fp32);
  const std::int64_t splits = divide_up(shape.multiprocessors, q.size(0) * heads);
  count_backward(q, k, causal, row_sums.narrow(1, 0, tokens), partial.narrow(0, 0, splits * tokens));
  if (k.size(2) != heads) {
    const at::Tensor dkeys = at::empty({tokens, heads, head_dim}, q.options());
    const at::Tensor dvalues = at::empty({tokens, heads, head_dim}, q.options());
  }
  return result;
}

}  // namespace

AttentionForward attention_forward_cuda(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                        const PackedRows& rows, float scale) {
  if (!uses_flash(q)) return attention_forward_tiled(q, k, v, rows, scale);
  const AttentionShape shape = shape_of(q, k);
  const at::Tensor offsets = empty_offsets(q, shape);
  if (!computes(q)) return rehearse_forward(q, k, rows.causal);
  std::vector<AttentionCall> calls = forward_calls(rows, shape);
  if (calls.size() == 1) {
    AttentionForward whole = flash_forward(q, k, v, calls[0], upload(calls[0], offsets), rows.causal, scale);
    return {whole.out.view(q.sizes()), whole.statistics};
  }
  AttentionForward result{dense_like(q),
                          at::empty({q.size(2), q.size(0) * q.size(1)}, q.options().dtype(at::kFloat))};
  for (AttentionCall& call : calls) {
    const AttentionForward part = flash_forward(q, k, v, call, upload(call, offsets), rows.causal, scale);
    tokens_of(call, result.out).copy_(part.out);
    result.statistics.narrow(1, call.begin, call.end - call.begin).copy_(part.statistics);
  }
  return result;
}

AttentionGradients attention_backward_cuda(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, const AttentionForward& forward,
                                           const PackedRows& rows, float scale) {
  if (!uses_flash(q)) return attention_backward_tiled(dout, q, k, v, forward.statistics, rows, scale);
  const AttentionShape shape = shape_of(q, k);
  const at::Tensor offsets = empty_offsets(q, shape);
  if (!computes(q)) return rehearse_backward(q, k, v, rows.causal);
  std::vector<AttentionCall> calls = backward_calls(rows, shape);
  if (calls.size() == 1) {
    AttentionGradients whole = flash_backward(dout, q, k, v, forward.out, forward.statistics, calls[0],
                                              upload(calls[0], offsets), rows.causal, scale);
    return {whole.dq.view(q.sizes()), whole.dk.view(k.sizes()), whole.dv.view(v.sizes())};
  }
  AttentionGradients result{dense_like(q), dense_like(k), dense_like(v)};
  for (AttentionCall& call : calls) {
    const at::Tensor log_sum = forward.statistics.narrow(1, call.begin, call.end - call.begin).contiguous();
    const AttentionGradients part =
        flash_backward(dout, q, k, v, forward.out, log_sum, call, upload(call, offsets), rows.causal, scale);
    tokens_of(call, result.dq).copy_(part.dq);
    tokens_of(call, result.dk).copy_(part.dk);
    tokens_of(call, result.dv).copy_(part.dv);
  }
  return result;
}

void attention_with_cache_cuda(const at::Tensor& q, const KeyValueCache& cache, std::int64_t past,
                               float scale, at::Tensor& out) {
  attention_with_cache_tiled(q, cache, past, scale, out);
}

}  // namespace autoglm::ops
