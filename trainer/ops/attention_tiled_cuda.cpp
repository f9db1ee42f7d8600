#include "trainer/ops/attention_tiled_cuda.h"

#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>

#include "base/math.h"
#include "sharding/memory/category.h"
#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"

namespace autoglm::ops {
namespace {

// Queries whose scores are held at a time.
constexpr std::int64_t kTile = 128;

struct Extents {
  std::int64_t heads, key_heads, head_dim;
  std::int64_t keys;  // of a row
  std::int64_t tile;

  Extents(const at::Tensor& q, const at::Tensor& k, std::int64_t num_keys)
      : heads(q.size(-2)),
        key_heads(k.size(-2)),
        head_dim(q.size(-1)),
        keys(num_keys),
        tile(std::min(kTile, q.size(-3))) {}

  std::int64_t all_keys() const { return key_heads * keys * head_dim; }
  std::int64_t queries() const { return heads * tile * head_dim; }
  std::int64_t scores() const { return heads * tile * keys; }
};

// fp32 scratch space handed out piece by piece; nothing is handed out on meta.
class Scratch {
 public:
  Scratch(std::int64_t elements, const at::Tensor& like) {
    const CategoryScope scope(MemoryCategory::workspace);
    all_ = at::empty({elements}, like.options().dtype(at::kFloat));
  }
  at::Tensor take(std::int64_t elements) {
    next_ += elements;
    return all_.narrow(0, next_ - elements, elements);
  }

 private:
  at::Tensor all_;
  std::int64_t next_ = 0;
};

at::Tensor shaped(const at::Tensor& piece, at::IntArrayRef shape) {
  std::int64_t elements = 1;
  for (const std::int64_t extent : shape) elements *= extent;
  return piece.narrow(0, 0, elements).view(shape);
}

// [tokens, heads, D] in fp32 as [heads, tokens, D] in `piece`.
at::Tensor gather_heads(const at::Tensor& tokens, const at::Tensor& piece) {
  at::Tensor heads = shaped(piece, {tokens.size(1), tokens.size(0), tokens.size(2)});
  heads.copy_(tokens.transpose(0, 1));
  return heads;
}

// The same memory with the heads of one key head as one long list of queries.
at::Tensor by_key_head(const at::Tensor& heads, const Extents& s) {
  return heads.view({s.key_heads, s.heads / s.key_heads * heads.size(1), heads.size(2)});
}

// Calls visit(begin, end) for each document of a row, relative to the row.
template <typename Visit>
void for_each_document(const PackedRows& rows, std::int64_t row, Visit visit) {
  const std::int64_t first = row * rows.length, last = first + rows.length;
  std::int64_t begin = first;
  for (const std::int32_t start : rows.document_starts) {
    if (start <= begin || start >= last) continue;
    visit(begin - first, start - first);
    begin = start;
  }
  visit(begin - first, last - first);
}

// Queries [begin, end) of a row, tile by tile, against keys from `first_key` on: query `begin` sees the keys
// up to and with first_key + past, the next one more; or all see as many as the last one.
struct Span {
  std::int64_t begin, end, first_key, past;
  bool causal = true;
};

template <typename Visit>
void for_each_tile(const Span& span, const Extents& s, Visit visit) {
  for (std::int64_t tile = span.begin; tile < span.end; tile += s.tile) {
    const std::int64_t count = std::min(s.tile, span.end - tile);
    const std::int64_t all = span.past + span.end - span.begin;
    const std::int64_t first_visible = span.causal ? span.past + tile - span.begin + 1 : all;
    visit(tile, count, first_visible, std::min(first_visible + count - 1, all));
  }
}

struct ForwardPieces {
  at::Tensor keys, values, queries, result, scores;

  static std::int64_t elements(const Extents& s) { return 2 * s.all_keys() + 2 * s.queries() + s.scores(); }
  ForwardPieces(const Extents& s, Scratch& scratch)
      : keys(scratch.take(s.all_keys())),
        values(scratch.take(s.all_keys())),
        queries(scratch.take(s.queries())),
        result(scratch.take(s.queries())),
        scores(scratch.take(s.scores())) {}
};

// One row: q, out [tokens, N, D]; keys, values fp32 [M, keys, D]; log_sum [N, tokens] or undefined.
void forward_span(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values, const Span& span,
                  const Extents& s, float scale, const ForwardPieces& pieces, const at::Tensor& out,
                  const at::Tensor& log_sum) {
  for_each_tile(
      span, s, [&](std::int64_t tile, std::int64_t count, std::int64_t first_visible, std::int64_t seen) {
        const at::Tensor queries = by_key_head(gather_heads(q.narrow(0, tile, count), pieces.queries), s);
        at::Tensor scores = shaped(pieces.scores, {s.key_heads, queries.size(1), seen});
        at::bmm_out(scores, queries, keys.narrow(1, span.first_key, seen).transpose(1, 2));
        float* sums = log_sum.defined() ? write_pointer<float>(log_sum) + tile : nullptr;
        run(cuda::AttentionSoftmax{write_pointer<float>(scores), sums, count, seen, first_visible,
                                   log_sum.defined() ? log_sum.size(1) : 0, scale},
            s.heads * count, q);
        const at::Tensor result = shaped(pieces.result, {s.heads, count, s.head_dim});
        at::Tensor result_by_key_head = by_key_head(result, s);
        at::bmm_out(result_by_key_head, scores, values.narrow(1, span.first_key, seen));
        out.narrow(0, tile, count).copy_(result.transpose(0, 1));
      });
}

struct BackwardPieces {
  at::Tensor keys, values, dkeys, dvalues, queries, doutputs, dqueries, scores, dscores;

  static std::int64_t elements(const Extents& s) {
    return 4 * s.all_keys() + 3 * s.queries() + 2 * s.scores();
  }
  BackwardPieces(const Extents& s, Scratch& scratch)
      : keys(scratch.take(s.all_keys())),
        values(scratch.take(s.all_keys())),
        dkeys(scratch.take(s.all_keys())),
        dvalues(scratch.take(s.all_keys())),
        queries(scratch.take(s.queries())),
        doutputs(scratch.take(s.queries())),
        dqueries(scratch.take(s.queries())),
        scores(scratch.take(s.scores())),
        dscores(scratch.take(s.scores())) {}
};

// One row: q, dout, dq [tokens, N, D]; the pieces hold keys and values and take their gradients, fp32 [M,
// keys, D].
void backward_span(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& log_sum, const Span& span,
                   const Extents& s, float scale, const BackwardPieces& pieces, const at::Tensor& dq) {
  const auto seen_of = [&](const at::Tensor& piece, std::int64_t seen) {
    return shaped(piece, {s.key_heads, s.keys, s.head_dim}).narrow(1, span.first_key, seen);
  };
  for_each_tile(
      span, s, [&](std::int64_t tile, std::int64_t count, std::int64_t first_visible, std::int64_t seen) {
        const at::Tensor queries = by_key_head(gather_heads(q.narrow(0, tile, count), pieces.queries), s);
        const at::Tensor doutputs =
            by_key_head(gather_heads(dout.narrow(0, tile, count), pieces.doutputs), s);
        const at::Tensor keys = seen_of(pieces.keys, seen), values = seen_of(pieces.values, seen);
        at::Tensor scores = shaped(pieces.scores, {s.key_heads, queries.size(1), seen});
        at::Tensor dscores = shaped(pieces.dscores, {s.key_heads, queries.size(1), seen});
        at::bmm_out(scores, queries, keys.transpose(1, 2));
        at::bmm_out(dscores, doutputs, values.transpose(1, 2));
        run(cuda::AttentionSoftmaxBackward{write_pointer<float>(scores), write_pointer<float>(dscores),
                                           read_pointer<float>(log_sum) + tile, count, seen, first_visible,
                                           log_sum.size(1), scale},
            s.heads * count, q);
        seen_of(pieces.dvalues, seen).baddbmm_(scores.transpose(1, 2), doutputs);
        seen_of(pieces.dkeys, seen).baddbmm_(dscores.transpose(1, 2), queries);
        const at::Tensor dqueries = shaped(pieces.dqueries, {s.heads, count, s.head_dim});
        at::Tensor dqueries_by_key_head = by_key_head(dqueries, s);
        at::bmm_out(dqueries_by_key_head, dscores, keys);
        dq.narrow(0, tile, count).copy_(dqueries.transpose(0, 1));
      });
}

// Rows as whole documents, tile by tile: the products read and write fp32 scores of the keys seen, half of them on
// average, and the softmax passes over them once more. `products` products of scores with other matrices.
void count_tiles(const at::Tensor& q, const at::Tensor& k, bool causal, std::int64_t products) {
  const Extents s(q, k, q.size(1));
  const std::int64_t rows = q.size(0), tiles = rows * divide_up(q.size(1), s.tile);
  const std::int64_t fp32 = static_cast<std::int64_t>(sizeof(float));
  const std::int64_t scores = q.numel() / s.head_dim * s.keys / (causal ? 2 : 1);
  const std::int64_t keys = rows * s.all_keys() * fp32;
  const std::int64_t half = divide_up(products, std::int64_t{2});
  count_work(WorkKind::attention, {2 * bytes_of(k) + half * bytes_of(q), 2 * keys + half * q.numel() * fp32,
                                   2 * rows + half * tiles, 0});
  count_work(WorkKind::attention, {products * scores * fp32, products * scores * fp32, (products + 1) * tiles,
                                   2 * products * scores * s.head_dim});
}

}  // namespace

AttentionForward attention_forward_tiled(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                         const PackedRows& rows, float scale) {
  AttentionForward result{dense_like(q),
                          at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat))};
  const Extents s(q, k, q.size(1));
  Scratch scratch(ForwardPieces::elements(s), q);
  if (!computes(q)) {
    count_tiles(q, k, rows.causal, 2);
    return result;
  }
  const ForwardPieces pieces(s, scratch);
  for (std::int64_t row = 0; row < q.size(0); ++row) {
    const at::Tensor keys = gather_heads(k[row], pieces.keys), values = gather_heads(v[row], pieces.values);
    for_each_document(rows, row, [&](std::int64_t begin, std::int64_t end) {
      forward_span(q[row], keys, values, {begin, end, begin, 0, rows.causal}, s, scale, pieces,
                   result.out[row], result.statistics[row]);
    });
  }
  return result;
}

AttentionGradients attention_backward_tiled(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                            const at::Tensor& v, const at::Tensor& log_sum,
                                            const PackedRows& rows, float scale) {
  AttentionGradients result{dense_like(q), dense_like(k), dense_like(v)};
  const Extents s(q, k, q.size(1));
  Scratch scratch(BackwardPieces::elements(s), q);
  if (!computes(q)) {
    count_tiles(q, k, rows.causal, 5);
    return result;
  }
  const BackwardPieces pieces(s, scratch);
  for (std::int64_t row = 0; row < q.size(0); ++row) {
    gather_heads(k[row], pieces.keys);
    gather_heads(v[row], pieces.values);
    at::Tensor dkeys = shaped(pieces.dkeys, {s.key_heads, s.keys, s.head_dim});
    at::Tensor dvalues = shaped(pieces.dvalues, {s.key_heads, s.keys, s.head_dim});
    dkeys.zero_();
    dvalues.zero_();
    for_each_document(rows, row, [&](std::int64_t begin, std::int64_t end) {
      backward_span(dout[row], q[row], log_sum[row], {begin, end, begin, 0, rows.causal}, s, scale, pieces,
                    result.dq[row]);
    });
    result.dk[row].copy_(dkeys.transpose(0, 1));
    result.dv[row].copy_(dvalues.transpose(0, 1));
  }
  return result;
}

void attention_with_cache_tiled(const at::Tensor& q, const KeyValueCache& cache, std::int64_t past,
                                float scale, at::Tensor& out) {
  const std::int64_t tokens = q.size(1), seen = past + tokens;
  const Extents s(q, cache.key, seen);
  Scratch scratch(ForwardPieces::elements(s), q);
  const ForwardPieces pieces(s, scratch);
  const at::Tensor keys = gather_heads(cache.key[0].narrow(0, 0, seen), pieces.keys);
  const at::Tensor values = gather_heads(cache.value[0].narrow(0, 0, seen), pieces.values);
  forward_span(q[0], keys, values, {0, tokens, 0, past}, s, scale, pieces, out[0], {});
}

}  // namespace autoglm::ops
