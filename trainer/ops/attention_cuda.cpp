#include "trainer/ops/attention_routes.h"

#include <ATen/Context.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>

#include "base/math.h"
#include "sharding/memory/category.h"
#include "trainer/ops/attention_tiled_cuda.h"
#include "trainer/ops/kernel_work.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// FlashAttention's workspace grows with the number of documents. Space is declared for documents of this many
// tokens on average; rows of shorter ones are computed in several calls.
constexpr std::int64_t kMeanDocument = 64;

bool uses_flash(const at::Tensor& q) {
  return !q.is_cpu() && q.scalar_type() == at::kBFloat16 && q.size(3) % 8 == 0 && q.size(3) <= 256;
}

std::int64_t max_documents(const at::Tensor& q) {
  return q.size(0) + q.size(0) * q.size(1) / kMeanDocument;
}

at::Tensor empty_offsets(const at::Tensor& q) {
  return at::empty({max_documents(q) + 1}, q.options().dtype(at::kInt));
}

// Documents that go through one call: their place among all tokens, and where each begins, relative to it.
struct Call {
  std::int64_t begin = 0, end = 0;
  std::int64_t longest = 2;  // at least 2: FlashAttention reads 1 as a step of generation
  std::vector<std::int32_t> offsets;

  at::Tensor part(const at::Tensor& tokens) const {
    return tokens.flatten(0, 1).narrow(0, begin, end - begin);
  }
  // What was read must not change before the copy is done (uploads_wait()).
  at::Tensor upload(const at::Tensor& to) {
    const auto count = static_cast<std::int64_t>(offsets.size());
    return to.narrow(0, 0, count).copy_(at::from_blob(offsets.data(), {count}, at::kInt), !uploads_wait());
  }
};

std::vector<Call> calls_for(const PackedRows& rows, std::int64_t at_most) {
  const auto total = static_cast<std::int32_t>(rows.batch * rows.length);
  const auto documents = static_cast<std::int64_t>(rows.document_starts.size());
  const std::int64_t each = documents <= at_most ? documents : std::max<std::int64_t>(1, at_most / 4);
  std::vector<Call> calls;
  for (std::int64_t first = 0; first < documents; first += each) {
    const std::int64_t last = std::min(first + each, documents);
    const auto start = [&](std::int64_t i) {
      return i == documents ? total : rows.document_starts[static_cast<std::size_t>(i)];
    };
    Call call{start(first), start(last), 2, {}};
    for (std::int64_t i = first; i <= last; ++i) {
      call.offsets.push_back(start(i) - start(first));
      if (i < last) call.longest = std::max<std::int64_t>(call.longest, start(i + 1) - start(i));
    }
    calls.push_back(std::move(call));
  }
  return calls;
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
                               const Call& call, const at::Tensor& offsets, bool causal, float scale) {
  auto [out, log_sum, random_state, unused, mask] =
      at::_flash_attention_forward(call.part(q), call.part(k), call.part(v), offsets, offsets, call.longest,
                                   call.longest, 0.0, causal, false, static_cast<double>(scale));
  return {out, log_sum};
}

AttentionGradients flash_backward(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                  const at::Tensor& v, const at::Tensor& out, const at::Tensor& log_sum,
                                  const Call& call, const at::Tensor& offsets, bool causal, float scale) {
  const DeterministicScope deterministic;
  auto [dq, dk, dv] = at::_flash_attention_backward(
      call.part(dout), call.part(q), call.part(k), call.part(v), call.part(out), log_sum, offsets, offsets,
      call.longest, call.longest, 0.0, causal, log_sum, log_sum, static_cast<double>(scale));
  return {dq, dk, dv};
}

// Operations of one product of queries with keys, or of scores with values, where rows are whole documents: half
// of the keys are seen.
std::int64_t score_operations(const at::Tensor& q, bool causal) {
  return (causal ? 1 : 2) * q.numel() * q.size(1);
}

// What _flash_attention_forward of LibTorch 2.11 allocates, in its order.
AttentionForward rehearse_forward(const at::Tensor& q, const at::Tensor& k, bool causal) {
  AttentionForward result{at::empty_like(q),
                          at::empty({q.size(2), q.size(0) * q.size(1)}, q.options().dtype(at::kFloat))};
  const at::Tensor random_state = at::empty({2}, q.options().dtype(at::kLong));
  const at::Tensor unused = at::empty({}, q.options().dtype(at::kLong));
  count_work(WorkKind::attention,
             {bytes_of(q) + 2 * bytes_of(k), bytes_of(result.out) + bytes_of(result.statistics), 1,
              2 * score_operations(q, causal)});
  return result;
}

// The deterministic backward fills all multiprocessors with partial sums of dq. Its largest workspace over all
// numbers of documents: rows of [heads, head dimension].
std::int64_t most_partial_rows(const at::Tensor& q) {
  const std::int64_t tokens = q.size(0) * q.size(1), heads = q.size(2);
  const std::int64_t multiprocessors = rehearsal_multiprocessors();
  std::int64_t most = 0;
  for (std::int64_t documents = q.size(0); documents <= max_documents(q); ++documents) {
    const std::int64_t splits = (multiprocessors + documents * heads - 1) / (documents * heads);
    most = std::max(most, splits * (tokens + 128 * documents));
  }
  return most;
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
  const std::int64_t multiple = head_dim <= 128 ? 32 : 64;
  const std::int64_t rounded = (head_dim + multiple - 1) / multiple * multiple;
  AttentionGradients result{at::empty_like(q), at::empty_like(k), at::empty_like(v)};
  const at::TensorOptions fp32 = q.options().dtype(at::kFloat);
  const at::Tensor row_sums = at::empty({heads, tokens + 128 * max_documents(q)}, fp32);
  const at::Tensor partial = at::empty({most_partial_rows(q), heads, rounded}, fp32);
  const std::int64_t splits = divide_up<std::int64_t>(rehearsal_multiprocessors(), q.size(0) * heads);
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
  const at::Tensor offsets = empty_offsets(q);
  if (!computes(q)) return rehearse_forward(q, k, rows.causal);
  std::vector<Call> calls = calls_for(rows, max_documents(q));
  if (calls.size() == 1) {
    AttentionForward whole = flash_forward(q, k, v, calls[0], calls[0].upload(offsets), rows.causal, scale);
    return {whole.out.view(q.sizes()), whole.statistics};
  }
  AttentionForward result{at::empty_like(q),
                          at::empty({q.size(2), q.size(0) * q.size(1)}, q.options().dtype(at::kFloat))};
  for (Call& call : calls) {
    const AttentionForward part = flash_forward(q, k, v, call, call.upload(offsets), rows.causal, scale);
    call.part(result.out).copy_(part.out);
    result.statistics.narrow(1, call.begin, call.end - call.begin).copy_(part.statistics);
  }
  return result;
}

AttentionGradients attention_backward_cuda(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, const AttentionForward& forward,
                                           const PackedRows& rows, float scale) {
  if (!uses_flash(q)) return attention_backward_tiled(dout, q, k, v, forward.statistics, rows, scale);
  const at::Tensor offsets = empty_offsets(q);
  if (!computes(q)) return rehearse_backward(q, k, v, rows.causal);
  std::vector<Call> calls = calls_for(rows, max_documents(q));
  if (calls.size() == 1) {
    AttentionGradients whole = flash_backward(dout, q, k, v, forward.out, forward.statistics, calls[0],
                                              calls[0].upload(offsets), rows.causal, scale);
    return {whole.dq.view(q.sizes()), whole.dk.view(k.sizes()), whole.dv.view(v.sizes())};
  }
  AttentionGradients result{at::empty_like(q), at::empty_like(k), at::empty_like(v)};
  for (Call& call : calls) {
    const at::Tensor log_sum = forward.statistics.narrow(1, call.begin, call.end - call.begin).contiguous();
    const AttentionGradients part =
        flash_backward(dout, q, k, v, forward.out, log_sum, call, call.upload(offsets), rows.causal, scale);
    call.part(result.dq).copy_(part.dq);
    call.part(result.dk).copy_(part.dk);
    call.part(result.dv).copy_(part.dv);
  }
  return result;
}

void attention_with_cache_cuda(const at::Tensor& q, const KeyValueCache& cache, std::int64_t past,
                               float scale, at::Tensor& out) {
  attention_with_cache_tiled(q, cache, past, scale, out);
}

}  // namespace autoglm::ops
