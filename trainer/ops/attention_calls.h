// Which documents of packed rows go through one call of FlashAttention.
//
// Its deterministic backward starts ceil(multiprocessors / (documents * heads)) blocks of threads for each document and
// head, and each walks its share of the key blocks in turn. So among many documents the longest decides how long the
// call takes, on a few multiprocessors, while in a call of its own it would fill the device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/ops/attention.h"

namespace autoglm::ops {

// Documents that follow each other: their tokens [begin, end) among those of all rows, and where each begins relative to
// the first, with the end of the last.
struct AttentionCall {
  std::int64_t begin = 0, end = 0;
  std::int64_t longest = 2;  // at least 2: FlashAttention reads 1 as a step of generation
  std::vector<std::int32_t> offsets;

  std::int64_t documents() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
  std::int64_t tokens() const { return end - begin; }
};

struct AttentionShape {
  std::int64_t rows = 1, length = 0;
  std::int64_t heads = 1, key_heads = 1, head_dim = 1;
  std::int64_t multiprocessors = 1;

  // Documents that one call may have, for which space is declared. Rows of more are computed in several calls.
  std::int64_t max_documents() const;
};

// Calls of at most shape.max_documents() documents: one, where they are not more.
std::vector<AttentionCall> forward_calls(const PackedRows& rows, const AttentionShape& shape);

// Calls of the least estimated time, of which none takes more than backward_partial_rows(shape). A function of
// where the documents begin and of the shape.
std::vector<AttentionCall> backward_calls(const PackedRows& rows, const AttentionShape& shape);

// Space that a backward in several calls has beside its results: partial sums of dq, in fp32, and the call's own dq,
// dk, dv and statistics. In rows of [heads, head_dim rounded up as FlashAttention does], at most over all documents.
std::int64_t backward_partial_rows(const AttentionShape& shape);

// The same of one call; `alone` if it is the only one, which writes the results themselves.
std::int64_t partial_rows_of_call(const AttentionShape& shape, std::int64_t tokens, std::int64_t documents,
                                  bool alone);

// Estimated time of the calls' backward, in what a multiprocessor takes for 128 queries with 128 keys.
double backward_time(std::span<const AttentionCall> calls, const AttentionShape& shape, bool causal);

std::int64_t rounded_head_dim(std::int64_t head_dim);

}  // namespace autoglm::ops
