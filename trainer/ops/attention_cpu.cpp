#include <algorithm>
#include <cmath>

#include "sharding/memory/category.h"
#include "trainer/ops/attention_cpu.h"
#include "trainer/ops/projection.h"
#include "trainer/ops/projection_onednn.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// fp32 elements of scratch space that each thread needs.
std::int64_t forward_scratch(const AttentionShape& s) {
  return 2 * s.length * s.head_dim + 2 * kQueryTile * s.head_dim + kQueryTile * s.length;
}
std::int64_t backward_scratch(const AttentionShape& s) {
  return 4 * s.length * s.head_dim + 3 * kQueryTile * s.head_dim + 2 * kQueryTile * s.length;
}

at::Tensor scratch_for(std::int64_t elements_per_thread, const at::Tensor& like) {
  const CategoryScope scope(MemoryCategory::workspace);
  return at::empty({at::get_num_threads(), elements_per_thread}, like.options().dtype(at::kFloat));
}

// Widens `count` tokens of one head, `stride` elements apart, into dense rows; multiplies by nothing.
template <typename T>
void gather_head(const T* from, std::int64_t stride, std::int64_t head_dim, std::int64_t count, float* to) {
  const auto& kernels = simd::activation_kernels<T>();
  for (std::int64_t i = 0; i < count; ++i) kernels.widen(from + i * stride, to + i * head_dim, head_dim);
}

template <typename T>
void scatter_head(const float* from, std::int64_t stride, std::int64_t head_dim, std::int64_t count, T* to) {
  const auto& kernels = simd::activation_kernels<T>();
  for (std::int64_t i = 0; i < count; ++i) kernels.narrow(from + i * head_dim, to + i * stride, head_dim);
}

// Scratch space handed out piece by piece.
class Pieces {
 public:
  explicit Pieces(float* start) : next_(start) {}
  float* take(std::int64_t elements) { return std::exchange(next_, next_ + elements); }

 private:
  float* next_;
};

template <typename T>
void forward_group(const T* q, const T* k, const T* v, const PackedRows& rows, const AttentionShape& s,
                   std::int64_t row, std::int64_t key_head, T* out, Statistics statistics, float* scratch) {
  const auto& math = simd::float_kernels();
  const HeadPointers at(s, row);
  const std::int64_t D = s.head_dim, T_row = s.length;
  Pieces pieces(scratch);
  float* keys = pieces.take(T_row * D);
  float* values = pieces.take(T_row * D);
  float* queries = pieces.take(kQueryTile * D);
  float* result = pieces.take(kQueryTile * D);
  float* scores = pieces.take(kQueryTile * T_row);
  gather_head(k + at.k_row + key_head * D, at.k_stride, D, T_row, keys);
  gather_head(v + at.k_row + key_head * D, at.k_stride, D, T_row, values);
  const std::int64_t group = s.num_heads / s.num_key_heads;
  for (std::int64_t head = key_head * group; head < (key_head + 1) * group; ++head) {
    const Statistics mine = statistics.of((row * s.num_heads + head) * T_row);
    for_each_document(rows, row, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t tile = begin; tile < end; tile += kQueryTile) {
        const std::int64_t count = std::min(kQueryTile, end - tile);
        const std::int64_t seen = rows.causal ? tile + count - begin : end - begin;
        gather_head(q + at.q_row + tile * at.q_stride + head * D, at.q_stride, D, count, queries);
        gemm(false, true, count, seen, D, 1, queries, D, keys + begin * D, D, 0, scores, seen);
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t visible = rows.causal ? tile - begin + i + 1 : seen;
          float* line = scores + i * seen;
          const float shift = math.maximum(line, visible) * s.scale;
          const float sum = math.exp_and_sum(line, visible, s.scale, shift);
          math.scale(line, visible, 1.0f / sum);
          std::fill(line + visible, line + seen, 0.0f);
          mine.shift[tile + i] = shift;
          mine.inverse_sum[tile + i] = 1.0f / sum;
        }
        gemm(false, false, count, D, seen, 1, scores, seen, values + begin * D, D, 0, result, D);
        scatter_head(result, at.q_stride, D, count, out + at.q_row + tile * at.q_stride + head * D);
      }
    });
  }
}

template <typename T>
void backward_group(const T* dout, const T* q, const T* k, const T* v, Statistics statistics,
                    const PackedRows& rows, const AttentionShape& s, std::int64_t row, std::int64_t key_head,
                    T* dq, T* dk, T* dv, float* scratch) {
  const auto& math = simd::float_kernels();
  const HeadPointers at(s, row);
  const std::int64_t D = s.head_dim, T_row = s.length;
  Pieces pieces(scratch);
  float* keys = pieces.take(T_row * D);
  float* values = pieces.take(T_row * D);
  float* dkeys = pieces.take(T_row * D);
  float* dvalues = pieces.take(T_row * D);
  float* queries = pieces.take(kQueryTile * D);
  float* doutputs = pieces.take(kQueryTile * D);
  float* temporary = pieces.take(kQueryTile * D);
  float* scores = pieces.take(kQueryTile * T_row);
  float* dscores = pieces.take(kQueryTile * T_row);
  gather_head(k + at.k_row + key_head * D, at.k_stride, D, T_row, keys);
  gather_head(v + at.k_row + key_head * D, at.k_stride, D, T_row, values);
  std::fill(dkeys, dkeys + T_row * D, 0.0f);
  std::fill(dvalues, dvalues + T_row * D, 0.0f);
  const std::int64_t group = s.num_heads / s.num_key_heads;
  for (std::int64_t head = key_head * group; head < (key_head + 1) * group; ++head) {
    const Statistics mine = statistics.of((row * s.num_heads + head) * T_row);
    for_each_document(rows, row, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t tile = begin; tile < end; tile += kQueryTile) {
        const std::int64_t count = std::min(kQueryTile, end - tile);
        const std::int64_t seen = rows.causal ? tile + count - begin : end - begin;
        const std::int64_t place = at.q_row + tile * at.q_stride + head * D;
        gather_head(q + place, at.q_stride, D, count, queries);
        gather_head(dout + place, at.q_stride, D, count, doutputs);
        gemm(false, true, count, seen, D, 1, queries, D, keys + begin * D, D, 0, scores, seen);
        gemm(false, true, count, seen, D, 1, doutputs, D, values + begin * D, D, 0, dscores, seen);
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t visible = rows.causal ? tile - begin + i + 1 : seen;
          math.attention_backward(scores + i * seen, dscores + i * seen, visible, s.scale,
                                  mine.shift[tile + i], mine.inverse_sum[tile + i]);
          std::fill(scores + i * seen + visible, scores + (i + 1) * seen, 0.0f);
          std::fill(dscores + i * seen + visible, dscores + (i + 1) * seen, 0.0f);
        }
        gemm(true, false, seen, D, count, 1, scores, seen, doutputs, D, 1, dvalues + begin * D, D);
        gemm(true, false, seen, D, count, 1, dscores, seen, queries, D, 1, dkeys + begin * D, D);
        gemm(false, false, count, D, seen, 1, dscores, seen, keys + begin * D, D, 0, temporary, D);
        scatter_head(temporary, at.q_stride, D, count, dq + place);
      }
    });
  }
  scatter_head(dkeys, at.k_stride, D, T_row, dk + at.k_row + key_head * D);
  scatter_head(dvalues, at.k_stride, D, T_row, dv + at.k_row + key_head * D);
}

// One query token against `num_keys` cached ones.
void attend_token(const at::Tensor& q, const KeyValueCache& cache, std::int64_t num_keys, std::int64_t token,
                  const AttentionShape& s, at::Tensor& out) {
  with_activation_type(q, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    const auto& math = simd::float_kernels();
    const std::int64_t D = s.head_dim, key_stride = s.num_key_heads * D;
    std::vector<float> query(static_cast<std::size_t>(D)), line(static_cast<std::size_t>(D)),
        result(query.size());
    std::vector<float> scores(static_cast<std::size_t>(num_keys));
    for (std::int64_t head = 0; head < s.num_heads; ++head) {
      const std::int64_t key_head = head / (s.num_heads / s.num_key_heads);
      const T* keys = read_pointer<T>(cache.key) + key_head * D;
      const T* values = read_pointer<T>(cache.value) + key_head * D;
      kernels.widen(read_pointer<T>(q) + (token * s.num_heads + head) * D, query.data(), D);
      for (std::int64_t i = 0; i < num_keys; ++i) {
        kernels.widen(keys + i * key_stride, line.data(), D);
        scores[static_cast<std::size_t>(i)] = math.dot(query.data(), line.data(), D);
      }
      const float shift = math.maximum(scores.data(), num_keys) * s.scale;
      const float sum = math.exp_and_sum(scores.data(), num_keys, s.scale, shift);
      std::fill(result.begin(), result.end(), 0.0f);
      for (std::int64_t i = 0; i < num_keys; ++i) {
        kernels.widen(values + i * key_stride, line.data(), D);
        const float probability = scores[static_cast<std::size_t>(i)] / sum;
        for (std::size_t d = 0; d < result.size(); ++d) result[d] += probability * line[d];
      }
      kernels.narrow(result.data(), write_pointer<T>(out) + (token * s.num_heads + head) * D, D);
    }
  });
}

}  // namespace

AttentionForward attention_forward_cpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                       const PackedRows& rows, float scale) {
  if (projects_by_onednn(q)) return attention_forward_onednn(q, k, v, rows, scale);
  const AttentionShape shape(q, k, scale);
  AttentionForward result{at::empty_like(q),
                          at::empty({2, q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat))};
  at::Tensor scratch = scratch_for(forward_scratch(shape), q);
  if (!computes(q)) return result;
  with_activation_type(q, [&](auto type) {
    using T = decltype(type);
    for_each_group(q.size(0), shape, [&](std::int64_t row, std::int64_t key_head, std::int64_t thread) {
      float* mine = write_pointer<float>(scratch) + thread * scratch.size(1);
      forward_group<T>(read_pointer<T>(q), read_pointer<T>(k), read_pointer<T>(v), rows, shape, row, key_head,
                       write_pointer<T>(result.out), pointers(result.statistics), mine);
    });
  });
  return result;
}

AttentionGradients attention_backward_cpu(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                          const at::Tensor& v, const AttentionForward& forward,
                                          const PackedRows& rows, float scale) {
  if (projects_by_onednn(q)) return attention_backward_onednn(dout, q, k, v, forward, rows, scale);
  const AttentionShape shape(q, k, scale);
  AttentionGradients result{at::empty_like(q), at::empty_like(k), at::empty_like(v)};
  at::Tensor scratch = scratch_for(backward_scratch(shape), q);
  if (!computes(q)) return result;
  with_activation_type(q, [&](auto type) {
    using T = decltype(type);
    for_each_group(q.size(0), shape, [&](std::int64_t row, std::int64_t key_head, std::int64_t thread) {
      float* mine = write_pointer<float>(scratch) + thread * scratch.size(1);
      backward_group<T>(read_pointer<T>(dout), read_pointer<T>(q), read_pointer<T>(k), read_pointer<T>(v),
                        pointers(forward.statistics), rows, shape, row, key_head, write_pointer<T>(result.dq),
                        write_pointer<T>(result.dk), write_pointer<T>(result.dv), mine);
    });
  });
  return result;
}

void attention_with_cache_cpu(const at::Tensor& q, const KeyValueCache& cache, std::int64_t past, float scale,
                              at::Tensor& out) {
  const AttentionShape shape(q, cache.key, scale);
  for (std::int64_t token = 0; token < q.size(1); ++token)
    attend_token(q, cache, past + token + 1, token, shape, out);
}

}  // namespace autoglm::ops
