// What the CPU's ways to compute attention share.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "trainer/ops/attention_routes.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {

// Queries that go through one matrix product: large enough to be efficient, small enough that little is
// computed beyond the causal diagonal.
inline constexpr std::int64_t kQueryTile = 64;

// Heads of one token lie side by side: element (token, head, d) of q is at (token * num_heads + head) * head_dim
// + d.
struct AttentionShape {
  std::int64_t num_heads;  // of queries
  std::int64_t num_key_heads;
  std::int64_t head_dim;
  std::int64_t length;  // tokens of a row
  float scale;

  AttentionShape(const at::Tensor& q, const at::Tensor& k, float score_scale)
      : num_heads(q.size(2)),
        num_key_heads(k.size(2)),
        head_dim(q.size(3)),
        length(q.size(1)),
        scale(score_scale) {}
};

// Documents of one row as [begin, end) relative to the row.
template <typename Visit>
void for_each_document(const PackedRows& rows, std::int64_t row, Visit visit) {
  const auto first = static_cast<std::int32_t>(row * rows.length);
  const auto last = static_cast<std::int32_t>(first + rows.length);
  auto start = std::lower_bound(rows.document_starts.begin(), rows.document_starts.end(), first);
  std::int32_t begin = first;
  while (begin < last) {
    while (start != rows.document_starts.end() && *start <= begin) ++start;
    const std::int32_t end = start == rows.document_starts.end() ? last : std::min(*start, last);
    visit(begin - first, end - first);
    begin = end;
  }
}

// Of every query, the largest scaled score and the reciprocal of the sum of exponentials beside it: together
// more exact than the logarithm of the sum. In memory [2, B, N, T].
struct Statistics {
  float* shift;
  float* inverse_sum;

  Statistics of(std::int64_t offset) const { return {shift + offset, inverse_sum + offset}; }
};

inline Statistics pointers(const at::Tensor& statistics) {
  float* first = static_cast<float*>(statistics.data_ptr());
  return {first, first + statistics.numel() / 2};
}

struct HeadPointers {
  std::int64_t q_stride, k_stride;
  std::int64_t q_row, k_row;  // first element of the row

  HeadPointers(const AttentionShape& s, std::int64_t row)
      : q_stride(s.num_heads * s.head_dim),
        k_stride(s.num_key_heads * s.head_dim),
        q_row(row * s.length * q_stride),
        k_row(row * s.length * k_stride) {}
};

// Calls work(row, key head, thread): a unit of work is a key head of a row with its query heads, and threads take ranges
// of units.
template <typename Work>
void for_each_group(std::int64_t batch, const AttentionShape& shape, Work work) {
  const std::int64_t units = batch * shape.num_key_heads;
  at::parallel_for(0, units, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t thread = at::get_thread_num();
    for (std::int64_t unit = begin; unit < end; ++unit)
      work(unit / shape.num_key_heads, unit % shape.num_key_heads, thread);
  });
}

// By oneDNN in the operands' own type, where that is the process's route; with the same contracts.
AttentionForward attention_forward_onednn(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                          const PackedRows& rows, float scale);
AttentionGradients attention_backward_onednn(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const AttentionForward& forward,
                                             const PackedRows& rows, float scale);

}  // namespace autoglm::ops
